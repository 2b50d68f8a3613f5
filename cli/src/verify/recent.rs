//! The seals of the last records, in constant memory.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::chain::Mac;

/// Seals that are kept.
const SLOTS: usize = 1 << 16;

/// The seals of the last records, as far as they do not share a slot. Older ones cannot be compared any more; that
/// loses nothing, since each record holds the seal of the one before it.
#[derive(Debug)]
pub(super) struct Recent(Vec<Option<Slot>>);

#[derive(Clone, Debug)]
struct Slot {
    chain: usize,
    seq: u64,
    mac: Mac,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self(vec![None; SLOTS])
    }

    pub(super) fn insert(&mut self, chain: usize, seq: u64, mac: Mac) {
        if let Some(slot) = self.0.get_mut(slot(&(chain, seq))) {
            *slot = Some(Slot { chain, seq, mac });
        }
    }

    /// The seal of that record, if it is kept.
    pub(super) fn get(&self, chain: usize, seq: u64) -> Option<Mac> {
        let slot = self.0.get(slot(&(chain, seq)))?.as_ref()?;
        (slot.chain == chain && slot.seq == seq).then_some(slot.mac)
    }
}

fn slot(key: &(usize, u64)) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    usize::try_from(hash & 0xffff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_given_back_for_its_record_only() {
        let mut recent = Recent::new();
        recent.insert(1, 2, [3; 32]);
        assert_eq!(recent.get(1, 2), Some([3; 32]));
        assert_eq!(recent.get(2, 1), None);
        assert_eq!(recent.get(1, 3), None);
    }
}
