//! A compiled condition and its result.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::CelBool;
use cel::{Context, Env, Value};

use super::charge::{self, Meter};
use super::check::{self, Uses};
use super::error::{ConditionError, Fault};
use super::inputs::{Inputs, Variable};
use super::{syntax, values};

/// The functions of the language: the same for all conditions, and too many to list anew for each request.
static LIBRARY: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// Where in a rule a condition stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// `when`: what else must hold for the rule to grant.
    When,
    /// `deny_when`: what the rule denies.
    DenyWhen,
    /// `approval.when`: what needs an approval.
    ApprovalWhen,
}

impl Place {
    /// The name of the policy's field.
    pub const fn field(self) -> &'static str {
        match self {
            Self::When => "when",
            Self::DenyWhen => "deny_when",
            Self::ApprovalWhen => "approval.when",
        }
    }
}

/// A condition that passed all checks that need no request.
#[derive(Clone, Debug)]
pub struct Condition {
    tree: IdedExpr,
    uses: Uses,
    /// Every member that the text names, at any depth.
    names: BTreeSet<String>,
}

impl Condition {
    /// Compiles `text`: one expression of at most [`crate::limits::MAX_CONDITION_BYTES`] that results in a bool.
    ///
    /// # Errors
    /// [`ConditionError::Invalid`], with line and column, when the text is no expression, is beyond a bound, names
    /// what is not known, or can only ever fail.
    pub fn compile(text: &str, place: Place) -> Result<Self, ConditionError> {
        Self::checked(text).map_err(|Fault { at, problem, remedy }| {
            let (line, column) = syntax::line_and_column(text, at);
            ConditionError::Invalid { place, line, column, problem, remedy }
        })
    }

    fn checked(text: &str) -> Result<Self, Fault> {
        let mut tree = syntax::parse(text)?;
        let (uses, names) = check::check(&tree)?;
        charge::meter(&mut tree);
        Ok(Self { tree, uses, names })
    }

    /// Whether the result may depend on the arguments of a call, which are unknown when tools are listed.
    pub fn depends_on_arguments(&self) -> bool {
        self.uses.contains_key(Variable::Arguments.name())
    }

    /// Whether the result may depend on the kind or the name of the target.
    pub fn depends_on_target(&self) -> bool {
        self.uses.contains_key(Variable::Target.name())
    }

    /// The names of the variables that the result may depend on, such as `claims`.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> {
        self.uses.keys().copied()
    }

    /// Whether the condition lets a rule grant: an error counts as *no*.
    #[must_use]
    pub fn grants(&self, inputs: &Inputs<'_>) -> bool {
        self.evaluate(inputs).unwrap_or(false)
    }

    /// Whether the condition makes a rule deny or ask for an approval: an error counts as *yes*.
    #[must_use]
    pub fn triggers(&self, inputs: &Inputs<'_>) -> bool {
        self.evaluate(inputs).unwrap_or(true)
    }

    /// The result, for those who must tell an error from a result; others ask [`Self::grants`] or [`Self::triggers`].
    ///
    /// # Errors
    /// Any [`ConditionError`] but `Invalid`: inputs that cannot be read or are too large, a missing member, a value of
    /// the wrong type or out of range, more work than [`crate::limits::MAX_CONDITION_WORK`].
    pub fn evaluate(&self, inputs: &Inputs<'_>) -> Result<bool, ConditionError> {
        let meter = Meter::default();
        let mut context = Context::with_env(Arc::clone(&LIBRARY));
        meter.install(&mut context);
        for (name, wanted) in &self.uses {
            if let Some(variable) = Variable::named(name)
                && let Some(value) = values::value(variable, wanted, &self.names, inputs)?
            {
                context.add_variable_as_val(*name, value);
            }
        }
        let result = Value::resolve_val(&self.tree, &context);
        // First, because `true || error` swallows errors.
        if meter.is_exceeded() {
            return Err(ConditionError::TooMuchWork);
        }
        match result {
            Ok(value) => value.downcast_ref::<CelBool>().map(|result| **result).ok_or(ConditionError::WrongType),
            Err(error) => Err(ConditionError::of(&error)),
        }
    }
}
