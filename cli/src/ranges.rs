//! Sets of record numbers, small as long as the numbers are consecutive.

use std::collections::BTreeMap;

use crate::log::Place;

/// Ranges of numbers that do not overlap, each with the place where it was first seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(BTreeMap<u64, Range>);

#[derive(Clone, Copy, Debug)]
struct Range {
    last: u64,
    place: Place,
}

impl Ranges {
    /// Adds the numbers from `first` to `last`. Tells whether that took a range more.
    pub(crate) fn insert(&mut self, first: u64, last: u64, place: Place) -> bool {
        let before = self.0.range_mut(..=first).next_back();
        if let Some((_, range)) = before.filter(|(_, range)| first <= range.last.saturating_add(1)) {
            range.last = range.last.max(last);
            return false;
        }
        self.0.insert(first, Range { last, place }).is_none()
    }

    /// The ranges, in order: first, last, place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64, Place)> {
        self.0.iter().map(|(first, range)| (*first, range.last, range.place))
    }

    /// What of `first` to `last` is not in the set.
    pub(crate) fn lacking(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut lacking = Vec::new();
        let mut next = first;
        let start = self.0.range(..=first).next_back().map_or(first, |(start, _)| *start);
        for (start, range) in self.0.range(start..=last) {
            if *start > next {
                lacking.push((next, start.saturating_sub(1)));
            }
            next = next.max(range.last.saturating_add(1));
        }
        if next <= last {
            lacking.push((next, last));
        }
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_are_one_range() {
        let mut ranges = Ranges::default();
        assert!(ranges.insert(3, 3, Place::default()));
        assert!(!ranges.insert(4, 6, Place::default()));
        assert!(!ranges.insert(4, 4, Place::default()));
        assert!(ranges.insert(9, 9, Place::default()));
        let all: Vec<(u64, u64)> = ranges.iter().map(|(first, last, _)| (first, last)).collect();
        assert_eq!(all, [(3, 6), (9, 9)]);
    }

    #[test]
    fn what_is_lacking_is_told_exactly() {
        let mut ranges = Ranges::default();
        ranges.insert(3, 6, Place::default());
        ranges.insert(9, 9, Place::default());
        assert_eq!(ranges.lacking(0, 10), [(0, 2), (7, 8), (10, 10)]);
        assert_eq!(ranges.lacking(4, 6), []);
        assert_eq!(ranges.lacking(5, 7), [(7, 7)]);
        assert_eq!(ranges.lacking(9, 9), []);
        assert_eq!(Ranges::default().lacking(1, 2), [(1, 2)]);
    }
}
