//! What can be wrong with a condition, when it loads and when it is evaluated.

use cel::ExecutionError;

use super::compile::Place;

/// Why a condition does not load, or has no result.
///
/// The text of the latter quotes nothing that a caller sent, so that it can be logged.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConditionError {
    /// The text is no condition. Only [`super::Condition::compile`] returns this.
    #[error("`{}`, line {line}, column {column}: {problem}; {remedy}", place.field())]
    Invalid {
        /// The field of the policy that holds it.
        place: Place,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
        /// What would make it right.
        remedy: String,
    },
    /// An input that the condition looks at has more bytes, values or levels than conditions may see.
    #[error("input too large for a condition: {0}")]
    InputTooLarge(&'static str),
    /// An input is not what it should be: no object, or not strict JSON.
    #[error("input unreadable for a condition: {0}")]
    InputUnreadable(&'static str),
    /// More work than [`crate::limits::MAX_CONDITION_WORK`].
    #[error("condition takes too much work with these inputs")]
    TooMuchWork,
    /// A member that is not there. `has()` asks whether it is.
    #[error("condition refers to a member that is missing")]
    MissingMember,
    /// A value of a type that the operator or function does not take, or a result that is no bool.
    #[error("condition meets a value of the wrong type")]
    WrongType,
    /// Integer overflow, division by zero, an index out of range, text that is no number.
    #[error("condition meets a value out of range")]
    OutOfRange,
}

impl ConditionError {
    /// The kind of an error of the evaluator. Its own text may hold values.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the crate's errors are many; all others are about types")]
    pub(super) fn of(error: &ExecutionError) -> Self {
        match error {
            ExecutionError::NoSuchKey(_) => Self::MissingMember,
            ExecutionError::IndexOutOfBounds(_)
            | ExecutionError::Overflow(..)
            | ExecutionError::DivisionByZero(_)
            | ExecutionError::RemainderByZero(_)
            | ExecutionError::DuplicateKey(_)
            | ExecutionError::FunctionError { .. } => Self::OutOfRange,
            _ => Self::WrongType,
        }
    }
}

/// What is wrong with a text, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: At,
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// A byte offset.
    Byte(usize),
    /// A node of the syntax tree, by the parser's number for it.
    Node(u64),
}

impl Fault {
    pub(super) fn new(at: At, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { at, problem: problem.into(), remedy: remedy.into() }
    }

    pub(super) fn node<T>(id: u64, problem: impl Into<String>, remedy: impl Into<String>) -> Result<T, Self> {
        Err(Self::new(At::Node(id), problem, remedy))
    }
}
