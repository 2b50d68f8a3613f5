//! Who is calling, from verified credentials only.

mod principal;

pub use principal::Principal;
