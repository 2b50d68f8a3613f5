//! Gates: what makes a call wait for a person, and for whom.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Permit;
use crate::approval::{Approver, Grant};
use crate::grown::grown;
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

impl Gate {
    /// Whether enough of these have a role that it asks for. Who is named twice counts once.
    fn is_met(&self, approvers: &[Approver]) -> bool {
        let others = self.escalation.iter().flat_map(|escalation| &escalation.approvers);
        let roles: BTreeSet<&str> = grown(self.approvers.iter().chain(others).map(String::as_str));
        let is_entitled = |approver: &&Approver| approver.roles.iter().any(|role| roles.contains(role.as_str()));
        let entitled: BTreeSet<(&str, &str)> = grown(
            approvers.iter().filter(is_entitled).map(|approver| (approver.issuer.as_str(), approver.subject.as_str())),
        );
        u32::try_from(entitled.len()).is_ok_and(|count| count >= self.count)
    }
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

    /// The permit, for an approval that was used up for this request; `None` if those who gave it are not those whom each
    /// of the gates asks for, or too few of them.
    ///
    /// The service has decided that already. But whom the policy asks for is the policy's word.
    pub fn discharge(self, grant: &Grant) -> Option<Permit> {
        self.gates.iter().all(|gate| gate.is_met(grant.approvers())).then_some(self.permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::UnixSeconds;

    fn approver(subject: &str, roles: &[&str]) -> Approver {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        Approver { issuer: "https://idp.test".to_owned(), subject: subject.to_owned(), roles, at: UnixSeconds::new(1) }
    }

    #[test]
    fn a_gate_wants_enough_people_with_its_roles() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let mut gate = Gate {
            origin: Origin::Rule,
            name: "rules[0]".to_owned(),
            approvers: names(&["admins", "owners"]),
            count: 2,
            hold: Seconds::default(),
            expires: Seconds::default(),
            needs_reason: false,
            escalation: None,
        };
        let (one, two) = (approver("a", &["guests", "admins"]), approver("b", &["owners"]));
        let (guest, on_call) = (approver("c", &["guests"]), approver("d", &["on-call"]));
        assert!(gate.is_met(&[one.clone(), two.clone()]));
        assert!(!gate.is_met(&[one.clone(), one.clone()]), "one person is one");
        assert!(!gate.is_met(&[one.clone(), guest.clone()]), "who has no role does not count");
        assert!(!gate.is_met(&[one.clone(), on_call.clone()]));
        assert!(!gate.is_met(&[]));
        gate.escalation = Some(Escalation { after: Seconds::new(1), approvers: names(&["on-call"]) });
        assert!(gate.is_met(&[one, on_call]), "others may when it was escalated to them");
        gate.count = 1;
        assert!(gate.is_met(&[two]) && !gate.is_met(&[guest]));
    }
}
