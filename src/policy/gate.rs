//! Gates: what makes a call wait for a person, and for whom.

use std::sync::Arc;

use super::Permit;
use crate::approval::Grant;
use crate::units::Seconds;

/// A part of the policy that lets some calls pass only after people have approved them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gate {
    /// Which part it is.
    pub origin: Origin,
    /// Its name within the policy: `rules[3]`, the agent role, or the risk.
    pub name: String,
    /// Roles of which an approver must have one. Empty only where nobody can be asked.
    pub approvers: Vec<String>,
    /// How many of them must approve, 1 to [`crate::limits::MAX_APPROVALS`].
    pub count: u32,
    /// How long a request is held for their decision before the caller is told to come back.
    pub hold: Seconds,
    /// How long they have to decide, and the caller to make use of it.
    pub expires: Seconds,
    /// Whether they must say why.
    pub needs_reason: bool,
    /// Who else may approve after a while.
    pub escalation: Option<Escalation>,
}

/// The part of a policy that a [`Gate`] is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// The rule of the target.
    Rule,
    /// The role of the agent.
    Agent,
    /// The risk of a scope that the rule requires.
    Risk,
}

impl Origin {
    /// Its name in records and towards the approval service.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Agent => "agent",
            Self::Risk => "risk",
        }
    }
}

/// Who else may approve when nobody has for a while.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Escalation {
    /// How long after the approval was asked for.
    pub after: Seconds,
    /// Roles of which an approver must have one.
    pub approvers: Vec<String>,
}

/// A call that everything allows, once people have approved it: all that its gates ask for.
///
/// It holds the permit, and gives it out for a [`Grant`] only.
#[derive(Debug, Eq, PartialEq)]
pub struct ObtainApproval {
    gates: Vec<Arc<Gate>>,
    permit: Permit,
}

impl ObtainApproval {
    pub(super) const fn new(gates: Vec<Arc<Gate>>, permit: Permit) -> Self {
        Self { gates, permit }
    }

    /// The gates that caught the call, each once.
    pub fn gates(&self) -> &[Arc<Gate>] {
        &self.gates
    }

    /// How long the request may be held: as long as the least patient gate says.
    pub fn hold(&self) -> Seconds {
        self.gates.iter().map(|gate| gate.hold).min().unwrap_or_default()
    }

    /// How long the approval is good for: as long as the strictest gate says.
    pub fn expires(&self) -> Seconds {
        self.gates.iter().map(|gate| gate.expires).min().unwrap_or_default()
    }

    /// Whether approvers must say why.
    pub fn needs_reason(&self) -> bool {
        self.gates.iter().any(|gate| gate.needs_reason)
    }

    /// The permit, for an approval that was used up for this request.
    pub fn discharge(self, _proof: Grant) -> Permit {
        self.permit
    }
}
