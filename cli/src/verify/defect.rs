//! What is wrong with a log, and where.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::log::Place;

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DefectKind {
    /// A record is not as it was sealed.
    Changed,
    /// The personal part of a record is not as it was written.
    PersonalChanged,
    /// The personal part of a record was erased, and no record of an erasure says so.
    ErasedWithoutRecord,
    /// The record of an erasure counts more or fewer records than were erased.
    ErasureCount,
    /// Records are missing between others.
    Missing,
    /// Records are missing before the first one of a chain.
    BeginningMissing,
    /// Records are missing after the last one of a chain.
    CutOff,
    /// All records of a chain are missing.
    ChainMissing,
    /// A record is there again.
    Duplicate,
    /// A record does not stand where it belongs.
    OutOfOrder,
    /// A record does not follow the one that it says it does.
    WrongPrev,
    /// A checkpoint or another chain saw another record in this place.
    OtherRecordSeen,
    /// A chain does not begin with an anchor, or a record has one that does not begin a chain.
    Anchor,
    /// A chain goes on after it was closed.
    AfterClosing,
    /// A chain that should be closed is not.
    NotClosed,
    /// A record is sealed with a key that was not given.
    UnknownKey,
    /// A request left no record.
    NoRecord,
    /// A line is no record.
    Unreadable,
    /// The last line, or a compressed file, is not whole.
    Cut,
}

impl DefectKind {
    /// Its name in a text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::PersonalChanged => "personal changed",
            Self::ErasedWithoutRecord => "erased without record",
            Self::ErasureCount => "erasure count",
            Self::Missing => "missing",
            Self::BeginningMissing => "beginning missing",
            Self::CutOff => "cut off",
            Self::ChainMissing => "chain missing",
            Self::Duplicate => "duplicate",
            Self::OutOfOrder => "out of order",
            Self::WrongPrev => "wrong prev",
            Self::OtherRecordSeen => "other record seen",
            Self::Anchor => "anchor",
            Self::AfterClosing => "after closing",
            Self::NotClosed => "not closed",
            Self::UnknownKey => "unknown key",
            Self::NoRecord => "no record",
            Self::Unreadable => "unreadable",
            Self::Cut => "cut",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Defect {
    pub(super) kind: DefectKind,
    pub(super) place: Place,
    /// Id of the chain.
    pub(super) chain: Option<String>,
    /// Number of the record, or of the first and the last of several.
    pub(super) seq: Option<(u64, u64)>,
    /// Id of the record.
    pub(super) record: Option<String>,
    /// Another line that has to do with it.
    pub(super) other: Option<Place>,
    /// In plain words.
    pub(super) detail: String,
}

impl Defect {
    pub(super) fn new(kind: DefectKind, place: Place, detail: impl Into<String>) -> Self {
        Self { kind, place, chain: None, seq: None, record: None, other: None, detail: detail.into() }
    }

    pub(super) fn in_chain(mut self, chain: &str, first: u64, last: u64) -> Self {
        self.chain = Some(chain.to_owned());
        self.seq = Some((first, last));
        self
    }

    pub(super) fn of_record(mut self, id: &str) -> Self {
        self.record = Some(id.to_owned());
        self
    }

    pub(super) fn beside(mut self, other: Place) -> Self {
        self.other = Some(other);
        self
    }
}

/// The defects of a log: all are counted, the first ones are kept.
#[derive(Debug)]
pub(super) struct Defects {
    most: usize,
    found: u64,
    counts: BTreeMap<DefectKind, u64>,
    /// By place, and then as they were found.
    first: BTreeMap<(Place, u64), Defect>,
}

impl Defects {
    /// None yet; the first `most` will be kept.
    pub(super) const fn new(most: usize) -> Self {
        Self { most, found: 0, counts: BTreeMap::new(), first: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, defect: Defect) {
        let count = self.counts.entry(defect.kind).or_default();
        *count = count.saturating_add(1);
        self.found = self.found.saturating_add(1);
        self.first.insert((defect.place, self.found), defect);
        if self.first.len() > self.most {
            self.first.pop_last();
        }
    }

    pub(super) const fn found(&self) -> u64 {
        self.found
    }

    pub(super) const fn counts(&self) -> &BTreeMap<DefectKind, u64> {
        &self.counts
    }

    /// The first ones, in the order of their places.
    pub(super) fn first(&self) -> impl Iterator<Item = &Defect> {
        self.first.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_defects_are_kept_and_all_are_counted() {
        let mut defects = Defects::new(2);
        for line in [5, 3, 9, 4] {
            defects.push(Defect::new(DefectKind::Changed, Place { source: 0, line }, ""));
        }
        assert_eq!(defects.found(), 4);
        assert_eq!(defects.counts()[&DefectKind::Changed], 4);
        assert_eq!(defects.first().map(|defect| defect.place.line).collect::<Vec<_>>(), [3, 4]);
    }
}
