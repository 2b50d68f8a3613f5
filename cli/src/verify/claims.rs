//! What checkpoints and other chains say of a chain.

use std::collections::BTreeMap;

use super::chain::Mac;
use super::defect::{Defect, DefectKind, Defects};
use crate::log::Place;

/// Claims of one chain about records that have not come yet. The lowest are given up first: a record binds all before
/// it, so that the highest claim is the one that matters.
const MAX_WAITING: usize = 4096;

/// That a chain had a record, and none after it.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) seq: u64,
    pub(super) mac: Mac,
    /// When that was.
    pub(super) at: String,
    pub(super) place: Place,
    pub(super) source: ClaimSource,
}

/// Who says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClaimSource {
    /// A record of another chain. It had looked some time before its own time.
    Head,
    /// A checkpoint.
    Checkpoint,
    /// A checkpoint after which no record follows.
    Closing,
}

/// The claims about one chain.
#[derive(Debug, Default)]
pub(super) struct Claims {
    waiting: BTreeMap<u64, Claim>,
    confirmed: Option<Claim>,
    closed_at: Option<u64>,
}

impl Claims {
    /// Takes note of a claim about a record that has not come yet.
    pub(super) fn wait(&mut self, claim: Claim) {
        let is_newer = self.waiting.get(&claim.seq).is_none_or(|other| is_newer(&claim, other));
        if is_newer {
            self.waiting.insert(claim.seq, claim);
        }
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_first();
        }
    }

    /// Holds a claim against the seal of its record.
    pub(super) fn check(&mut self, chain: &str, claim: Claim, mac: Option<Mac>, defects: &mut Defects) {
        if mac.is_some_and(|mac| mac != claim.mac) {
            let detail = format!("another record of this number existed at {}", claim.at);
            let defect = Defect::new(DefectKind::OtherRecordSeen, claim.place, detail);
            return defects.push(defect.in_chain(chain, claim.seq, claim.seq));
        }
        if claim.source == ClaimSource::Closing {
            self.closed_at = Some(claim.seq);
        }
        let is_better = |best: &Claim| claim.seq > best.seq || claim.seq == best.seq && is_newer(&claim, best);
        if self.confirmed.as_ref().is_none_or(is_better) {
            self.confirmed = Some(claim);
        }
    }

    /// A record has come: holds what was said of it against its seal.
    pub(super) fn arrived(&mut self, chain: &str, seq: u64, mac: Mac, defects: &mut Defects) {
        if let Some(claim) = self.waiting.remove(&seq) {
            self.check(chain, claim, Some(mac), defects);
        }
    }

    /// The highest claim about a record that has not come.
    pub(super) fn highest_waiting(&self) -> Option<&Claim> {
        self.waiting.last_key_value().map(|(_, claim)| claim)
    }

    /// The highest claim of a checkpoint of that time about a record that has not come. The times are of records, so that
    /// their order is the order of time.
    pub(super) fn checkpoint_within(&self, from: &str, until: &str) -> Option<&Claim> {
        let is_it = |claim: &&Claim| claim.source != ClaimSource::Head && (from..=until).contains(&&*claim.at);
        self.waiting.values().rev().find(is_it)
    }

    /// The highest claim about a record that is there.
    pub(super) const fn confirmed(&self) -> Option<&Claim> {
        self.confirmed.as_ref()
    }

    /// Whether the chain was closed after the record `seq`.
    pub(super) fn is_closed_at(&self, seq: u64) -> bool {
        self.closed_at == Some(seq)
    }
}

/// Of two claims about one record. A closing one is the last word.
fn is_newer(claim: &Claim, other: &Claim) -> bool {
    let rank = |claim: &Claim| (claim.source == ClaimSource::Closing, claim.source != ClaimSource::Head);
    (rank(claim), &claim.at) > (rank(other), &other.at)
}
