//! Conditions of rules, in CEL (the Common Expression Language): checked when the policy loads, bounded when evaluated.
//!
//! ```text
//! text ──► syntax (bounds, parser) ──► check (names, types) ──► charge (meters) ──► Condition
//! Inputs ──► values (strict JSON, only what the text names) ──► Condition::grants / Condition::triggers
//! ```
//!
//! The `cel` crate parses and evaluates. It has neither a type checker nor a budget, so both are here: a name, a
//! member or a type that cannot be right stops the load, and what a caller sends cannot make an evaluation long.
//!
//! # Errors
//! A missing member, a wrong type, an overflow, an input or an amount of work beyond its bound is an error and never
//! a result. [`Condition::grants`] counts it as *no*, [`Condition::triggers`] as *yes*.
//!
//! `&&`, `||`, `all` and `exists` follow the language's definition: an operand that decides by itself does so whatever
//! the other one is, an error too. So `has_role || arguments.missing` is true for who has the role, and an error for
//! others: what grants is always a true operand, never the error. Bounds are exempt from that: beyond one of them
//! there is no result at all.
//!
//! # Values
//! Whole JSON numbers are `int`, above the largest of those `uint`; with a fraction or an exponent they are `double`.
//! The three compare by value. A whole number that fits neither is an error, and so is every double from 2^63 on,
//! because the two cannot be told apart. Values of different kinds are not equal, which is no error: prefer conditions
//! that say what is allowed (`arguments.channel == 'email'`) to those that say what is not.

mod charge;
mod check;
mod compile;
mod error;
mod inputs;
mod kinds;
mod syntax;
mod values;

pub use compile::{Condition, Place};
pub use error::ConditionError;
pub use inputs::{Inputs, Known};
