//! What the audit record will say about an approval.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::approval::{ApprovalId, Approver};
use crate::audit::clean;
use crate::audit::record::{self, ApprovalStatus};
use crate::config::AuditPolicy;
use crate::grown::grown;
use crate::limits;
use crate::policy::{Gate, Origin};
use crate::units::{Seconds, UnixSeconds};

/// What is known of the approval that a call waits for.
#[derive(Debug)]
pub(super) struct ApprovalNote {
    gates: Vec<&'static str>,
    since: UnixSeconds,
    held: Seconds,
    /// Envoy cluster of the service that was asked last.
    pub(super) service: Option<String>,
    pub(super) id: Option<ApprovalId>,
    pub(super) status: ApprovalStatus,
    pub(super) escalated: bool,
    pub(super) step: u8,
    pub(super) approvers: Vec<Approver>,
}

impl ApprovalNote {
    pub(super) fn new(gates: &[Arc<Gate>], since: UnixSeconds) -> Self {
        // A call that acts on several things can be caught by as many rules.
        let origins: BTreeSet<Origin> = grown(gates.iter().map(|gate| gate.origin));
        Self {
            gates: origins.into_iter().map(Origin::name).collect(),
            since,
            held: Seconds::default(),
            service: None,
            id: None,
            status: ApprovalStatus::Pending,
            escalated: false,
            step: 0,
            approvers: Vec::new(),
        }
    }

    /// The wait is over.
    pub(super) fn ended(&mut self, now: UnixSeconds) {
        self.held = now.since(self.since);
    }

    pub(super) fn to_record(&self) -> record::Approval<'_> {
        record::Approval {
            escalated: self.escalated,
            gates: self.gates.iter().map(|&gate| gate.into()).collect(),
            held_seconds: self.held.get(),
            id: self.id.as_ref().map(|id| id.as_str().into()),
            service: self.service.as_deref().map(Into::into),
            status: self.status,
            step: u32::from(self.step),
        }
    }

    /// Who has decided, as the policy has people named.
    pub(super) fn approvers(&self, audit: Option<&AuditPolicy>) -> Vec<record::Approver<'_>> {
        let named = |approver| named(approver, audit.filter(|audit| audit.hides_subjects));
        self.approvers.iter().take(limits::MAX_RECORDED_LIST).map(named).collect()
    }
}

fn named<'a>(approver: &'a Approver, hiding: Option<&AuditPolicy>) -> record::Approver<'a> {
    let Approver { issuer, subject, roles, at } = approver;
    let text = |text: &'a str| clean(text, limits::MAX_RECORDED_TEXT_BYTES);
    record::Approver {
        at: at.get(),
        issuer: text(issuer),
        pseudonym: hiding.map(|audit| audit.pseudonyms.of(issuer, subject.as_bytes()).into()),
        roles: roles.iter().take(limits::MAX_RECORDED_LIST).map(|role| text(role)).collect(),
        subject: hiding.is_none().then(|| text(subject)),
    }
}
