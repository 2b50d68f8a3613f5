//! Erased personal parts, held against the records of erasures.

use std::collections::BTreeMap;

use toolgate::audit::record::Erasure;

use super::defect::{Defect, DefectKind, Defects};
use crate::log::Place;
use crate::ranges::Ranges;

/// Ranges of erased records that are kept.
const MAX_RANGES: usize = 1_000_000;

/// What was erased, and what records of erasures say of it. Either can come first.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    by_id: BTreeMap<String, Accounts>,
    ranges: usize,
    erased: u64,
    records: u64,
}

/// The two sides of one erasure.
#[derive(Debug, Default)]
struct Accounts {
    /// Erased records that refer to it.
    found: u64,
    first: Option<Place>,
    found_in: BTreeMap<String, Ranges>,
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    place: Place,
    count: u64,
    ranges: BTreeMap<String, Ranges>,
}

impl Erasures {
    /// Takes note of an erased record; `link` is its place in a chain if it has one.
    pub(super) fn found(&mut self, id: &str, link: Option<(&str, u64)>, place: Place) {
        self.erased = self.erased.saturating_add(1);
        let accounts = self.by_id.entry(id.to_owned()).or_default();
        accounts.found = accounts.found.saturating_add(1);
        accounts.first.get_or_insert(place);
        let Some((chain, seq)) = link.filter(|_| self.ranges < MAX_RANGES) else { return };
        if accounts.found_in.entry(chain.to_owned()).or_default().insert(seq, seq, place) {
            self.ranges = self.ranges.saturating_add(1);
        }
    }

    /// Takes note of the sealed record of an erasure.
    pub(super) fn said(&mut self, id: &str, erasure: &Erasure<'_>, place: Place, defects: &mut Defects) {
        self.records = self.records.saturating_add(1);
        let accounts = self.by_id.entry(id.to_owned()).or_default();
        if let Some(said) = &accounts.said {
            let detail = "the record of an erasure is there again";
            defects.push(Defect::new(DefectKind::Duplicate, place, detail).of_record(id).beside(said.place));
            return;
        }
        let mut ranges: BTreeMap<String, Ranges> = BTreeMap::new();
        for range in &erasure.ranges {
            ranges.entry(range.id.clone().into_owned()).or_default().insert(range.first, range.last, place);
        }
        accounts.said = Some(Said { place, count: erasure.count, ranges });
    }

    /// Records whose personal part was erased, and records of erasures.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.erased, self.records)
    }

    /// Whether there were more erased records than can be compared one by one.
    pub(super) const fn is_overfull(&self) -> bool {
        self.ranges >= MAX_RANGES
    }

    pub(super) fn finish(&self, defects: &mut Defects) {
        for (id, accounts) in &self.by_id {
            match (&accounts.said, accounts.first) {
                (None, Some(first)) => {
                    let detail = format!(
                        "the personal part of {} records from here on was taken out, and no record of an erasure \
                         `{id}` says so",
                        accounts.found
                    );
                    defects.push(Defect::new(DefectKind::ErasedWithoutRecord, first, detail));
                }
                (Some(said), _) => compare(id, accounts, said, defects),
                (None, None) => {}
            }
        }
    }
}

fn compare(id: &str, accounts: &Accounts, said: &Said, defects: &mut Defects) {
    let none = Ranges::default();
    for (chain, found) in &accounts.found_in {
        let covered = said.ranges.get(chain).unwrap_or(&none);
        for (first, last, place) in found.iter() {
            for (first, last) in covered.lacking(first, last) {
                let detail =
                    format!("the personal part was taken out, and the erasure `{id}` does not name the record");
                let defect = Defect::new(DefectKind::ErasedWithoutRecord, place, detail).in_chain(chain, first, last);
                defects.push(defect.beside(said.place));
            }
        }
    }
    if accounts.found != said.count {
        let detail = format!("the erasure was of {} records, and {} are erased", said.count, accounts.found);
        defects.push(Defect::new(DefectKind::ErasureCount, said.place, detail).of_record(id));
    }
}
