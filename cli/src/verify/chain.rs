//! One chain: whether its records follow one another.
//!
//! Records are taken in the order of the log. What does not fit is kept, within bounds, until it is clear what happened,
//! so that one line that was moved, repeated or removed is one defect and not many:
//! - A record that jumps ahead is held until the next one of the chain. If that goes on from it, records are missing
//!   before it; if that goes back, it is a stray that stands too early.
//! - A missing record can still come, late.
//! - Records that come late or again, one after the other, are one run.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::defect::{Defect, DefectKind, Defects};
use crate::log::Place;
use crate::ranges::Ranges;

/// A seal, decoded.
pub(super) type Mac = [u8; 32];

/// Records that stand too early, of one chain.
const MAX_STRAYS: usize = 256;
/// Gaps that can still be filled, of one chain.
const MAX_GAPS: usize = 4096;
/// Ranges of damaged records, of one chain.
const MAX_DAMAGED: usize = 4096;

/// A record whose seal is valid.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) seq: u64,
    pub(super) mac: Mac,
    /// The seal of the record before, as this one says.
    pub(super) prev: Option<Mac>,
    pub(super) place: Place,
    pub(super) id: Box<str>,
    pub(super) at: Box<str>,
}

/// Records that are missing as yet.
#[derive(Clone, Debug)]
struct Gap {
    last: u64,
    /// The seal of the record before the first one, if there is one.
    before: Option<Mac>,
    /// The seal of the last one, as the record after it says.
    end: Option<Mac>,
    /// Where that record stands.
    place: Place,
}

/// Records, one after the other, that come again or late.
#[derive(Clone, Debug)]
struct Run {
    kind: RunKind,
    first: u64,
    last: u64,
    place: Place,
    /// The line that the first one should stand before.
    before: Option<Place>,
    id: Box<str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RunKind {
    Again,
    Late,
}

/// The records of one chain up to now.
#[derive(Debug)]
pub(super) struct Sequence {
    chain: Box<str>,
    next: u64,
    last: Option<Seen>,
    held: Option<Seen>,
    strays: BTreeMap<u64, Seen>,
    gaps: BTreeMap<u64, Gap>,
    has_given_up_gaps: bool,
    run: Option<Run>,
    damaged: Ranges,
    damaged_ranges: usize,
    first_lost: Option<u64>,
}

impl Sequence {
    pub(super) fn new(chain: &str) -> Self {
        Self {
            chain: chain.into(),
            next: 0,
            last: None,
            held: None,
            strays: BTreeMap::new(),
            gaps: BTreeMap::new(),
            has_given_up_gaps: false,
            run: None,
            damaged: Ranges::default(),
            damaged_ranges: 0,
            first_lost: None,
        }
    }

    /// The record with the highest number that was taken in order.
    pub(super) const fn last(&self) -> Option<&Seen> {
        self.last.as_ref()
    }

    /// The first record that is missing, or is another one than it should be. Known when the log has ended.
    pub(super) const fn first_lost(&self) -> Option<u64> {
        self.first_lost
    }

    /// A line that is reported by itself says that it is record `seq`, so that it is not missing as well.
    pub(super) fn note_damaged(&mut self, seq: u64, place: Place) {
        if self.damaged_ranges < MAX_DAMAGED && self.damaged.insert(seq, seq, place) {
            self.damaged_ranges = self.damaged_ranges.saturating_add(1);
        }
    }

    /// Whether each of these records is a line that is reported by itself.
    pub(super) fn is_all_damaged(&self, first: u64, last: u64) -> bool {
        self.damaged.lacking(first, last).is_empty()
    }

    /// Takes the next record in the order of the log. `known` is the seal that a record of this number had before.
    pub(super) fn take(&mut self, seen: Seen, known: Option<Mac>, defects: &mut Defects) {
        if seen.seq < self.next {
            return self.take_behind(&seen, known, defects);
        }
        match self.held.take() {
            Some(held) if held.seq == seen.seq => {
                self.repeat(&seen, known, Some(held.place), defects);
                self.held = Some(held);
                return;
            }
            Some(held) if held.seq < seen.seq => self.jump(held, defects),
            Some(held) => self.stray(held, defects),
            None => {}
        }
        // Not before: the record could still come in its place, and the stray be a copy.
        while seen.seq > self.next
            && let Some(stray) = self.strays.remove(&self.next)
        {
            self.early(&stray, defects);
            self.append(stray, defects);
        }
        match seen.seq.cmp(&self.next) {
            // The oldest of too many strays has taken the chain past it.
            Ordering::Less => self.take_behind(&seen, known, defects),
            Ordering::Equal => self.append(seen, defects),
            Ordering::Greater => self.held = Some(seen),
        }
    }

    /// The log has ended.
    pub(super) fn finish(&mut self, is_continued: bool, defects: &mut Defects) {
        if let Some(held) = self.held.take() {
            self.jump(held, defects);
        }
        while let Some((_, stray)) = self.strays.pop_first() {
            self.early(&stray, defects);
            self.jump(stray, defects);
        }
        self.end_run(defects);
        let first_of_gaps = self.gaps.first_key_value().map(|(first, _)| *first);
        for (first, gap) in std::mem::take(&mut self.gaps) {
            let is_beginning = Some(first) == first_of_gaps && first == 0;
            if !(is_beginning && is_continued) {
                self.report_gap(first, &gap, defects);
            }
        }
    }

    /// A record that follows the last one.
    fn append(&mut self, seen: Seen, defects: &mut Defects) {
        let is_linked = match &self.last {
            Some(last) => seen.prev == Some(last.mac),
            None => seen.prev.is_none(),
        };
        if !is_linked {
            self.wrong_prev(&seen, defects);
        }
        self.end_run(defects);
        self.advance(seen, defects);
    }

    /// A record that follows the last one, or others that are missing.
    fn jump(&mut self, seen: Seen, defects: &mut Defects) {
        if seen.seq == self.next {
            return self.append(seen, defects);
        }
        let gap = Gap {
            last: seen.seq.saturating_sub(1),
            before: self.last.as_ref().map(|last| last.mac),
            end: seen.prev,
            place: seen.place,
        };
        let first = self.next;
        self.gaps.insert(first, gap);
        self.end_run(defects);
        let strays: Vec<u64> = self.strays.range(first..seen.seq).map(|(seq, _)| *seq).collect();
        for stray in strays.iter().filter_map(|seq| self.strays.remove(seq)).collect::<Vec<_>>() {
            self.early(&stray, defects);
            self.fill(&stray, defects);
        }
        self.advance(seen, defects);
        if self.gaps.len() > MAX_GAPS
            && let Some((first, gap)) = self.gaps.pop_first()
        {
            self.has_given_up_gaps = true;
            self.report_gap(first, &gap, defects);
        }
    }

    fn advance(&mut self, seen: Seen, defects: &mut Defects) {
        if let Some(stray) = self.strays.remove(&seen.seq) {
            self.repeat(&stray, Some(seen.mac), Some(seen.place), defects);
        }
        self.next = seen.seq.saturating_add(1);
        self.last = Some(seen);
    }

    fn stray(&mut self, stray: Seen, defects: &mut Defects) {
        self.strays.insert(stray.seq, stray);
        if self.strays.len() > MAX_STRAYS
            && let Some((_, first)) = self.strays.pop_first()
        {
            self.early(&first, defects);
            self.jump(first, defects);
        }
    }

    /// A record with a number that the chain has passed.
    fn take_behind(&mut self, seen: &Seen, known: Option<Mac>, defects: &mut Defects) {
        let gap = self.gaps.range(..=seen.seq).next_back().filter(|(_, gap)| seen.seq <= gap.last);
        if let Some((_, gap)) = gap {
            let before = gap.place;
            self.extend_run(RunKind::Late, seen, Some(before), defects);
            self.fill(seen, defects);
        } else if self.has_given_up_gaps && known.is_none() {
            self.extend_run(RunKind::Late, seen, None, defects);
        } else {
            self.repeat(seen, known, None, defects);
        }
    }

    /// A missing record that has come.
    fn fill(&mut self, seen: &Seen, defects: &mut Defects) {
        let Some(first) = self.gaps.range(..=seen.seq).next_back().map(|(first, _)| *first) else { return };
        let Some(Gap { last, before, end, place }) = self.gaps.remove(&first) else { return };
        let follows = if seen.seq == first { before == seen.prev } else { true };
        let is_followed = if seen.seq == last { end == Some(seen.mac) } else { true };
        if !follows || !is_followed {
            self.wrong_prev(seen, defects);
        }
        if first < seen.seq {
            let gap = Gap { last: seen.seq.saturating_sub(1), before, end: seen.prev, place };
            self.gaps.insert(first, gap);
        }
        if seen.seq < last {
            self.gaps.insert(seen.seq.saturating_add(1), Gap { last, before: Some(seen.mac), end, place });
        }
    }

    fn repeat(&mut self, seen: &Seen, known: Option<Mac>, other: Option<Place>, defects: &mut Defects) {
        if known.is_some_and(|known| known != seen.mac) {
            let detail = "another record has the same number; both are sealed, so that whoever wrote one has the key";
            let defect = Defect::new(DefectKind::Duplicate, seen.place, detail).of_record(&seen.id);
            return defects.push(defect.in_chain(&self.chain, seen.seq, seen.seq));
        }
        self.extend_run(RunKind::Again, seen, other, defects);
    }

    fn extend_run(&mut self, kind: RunKind, seen: &Seen, before: Option<Place>, defects: &mut Defects) {
        if let Some(run) = self.run.as_mut().filter(|run| run.kind == kind && run.last.saturating_add(1) == seen.seq) {
            run.last = seen.seq;
            return;
        }
        self.end_run(defects);
        let (first, last, place, id) = (seen.seq, seen.seq, seen.place, seen.id.clone());
        self.run = Some(Run { kind, first, last, place, before, id });
    }

    fn end_run(&mut self, defects: &mut Defects) {
        let Some(Run { kind, first, last, place, before, id }) = self.run.take() else { return };
        let (kind, detail) = match kind {
            RunKind::Again => (DefectKind::Duplicate, "already there"),
            RunKind::Late => (DefectKind::OutOfOrder, "after later ones of the chain"),
        };
        let detail = if first == last { format!("a record {detail}") } else { format!("records {detail}") };
        let defect = Defect::new(kind, place, detail).in_chain(&self.chain, first, last).of_record(&id);
        defects.push(Defect { other: before, ..defect });
    }

    fn early(&self, stray: &Seen, defects: &mut Defects) {
        let detail = "the record stands before earlier ones";
        let defect = Defect::new(DefectKind::OutOfOrder, stray.place, detail).of_record(&stray.id);
        let defect = defect.in_chain(&self.chain, stray.seq, stray.seq);
        defects.push(Defect { other: self.last.as_ref().map(|last| last.place), ..defect });
    }

    fn wrong_prev(&mut self, seen: &Seen, defects: &mut Defects) {
        self.lose(seen.seq);
        let detail = "the record does not follow the one before it: one of the two is of another chain of the same id";
        let defect = Defect::new(DefectKind::WrongPrev, seen.place, detail).of_record(&seen.id);
        defects.push(defect.in_chain(&self.chain, seen.seq, seen.seq));
    }

    fn report_gap(&mut self, first: u64, gap: &Gap, defects: &mut Defects) {
        self.lose(first);
        let (kind, detail) = if first == 0 {
            (DefectKind::BeginningMissing, "the beginning of the chain is missing before this line")
        } else {
            (DefectKind::Missing, "records are missing before this line")
        };
        for (first, last) in self.damaged.lacking(first, gap.last) {
            defects.push(Defect::new(kind, gap.place, detail).in_chain(&self.chain, first, last));
        }
    }

    fn lose(&mut self, seq: u64) {
        self.first_lost = Some(self.first_lost.map_or(seq, |first| first.min(seq)));
    }
}
