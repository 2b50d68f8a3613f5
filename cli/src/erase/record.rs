//! Records of erasures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use toolgate::audit::record::{ErasedRange, Erasure, Kind, Link, Record, VERSION};
use toolgate::audit::seal::{line, mac};
use toolgate::keys::NamedKey;

use crate::log::Place;
use crate::ranges::Ranges;

/// Ranges in one record: about 300 KiB of a line.
const MAX_RANGES: usize = 4096;

/// What each record of an erasure says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature<'a> {
    pub(super) key: &'a NamedKey,
    /// UTC, RFC 3339, with milliseconds.
    pub(super) at: &'a str,
    pub(super) by: Option<&'a str>,
    pub(super) why: Option<&'a str>,
}

/// An erasure that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: String,
    count: u64,
    chains: BTreeMap<String, Ranges>,
    ranges: usize,
}

impl Pending {
    pub(super) fn new() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let id = bytes.iter().fold(String::new(), |mut id, byte| {
            // Writing to a string cannot fail.
            let _ = write!(id, "{byte:02x}");
            id
        });
        Ok(Self { id, count: 0, chains: BTreeMap::new(), ranges: 0 })
    }

    /// Takes note of an erased record; `link` is its place in a chain if it has one.
    pub(super) fn add(&mut self, link: Option<(&str, u64)>) {
        self.count = self.count.saturating_add(1);
        let Some((chain, seq)) = link else { return };
        let is_new = self.chains.entry(chain.to_owned()).or_default().insert(seq, seq, Place::default());
        self.ranges = self.ranges.saturating_add(usize::from(is_new));
    }

    /// Whether the record of it should not become longer.
    pub(super) const fn is_full(&self) -> bool {
        self.ranges >= MAX_RANGES
    }

    /// The sealed record, as a line.
    pub(super) fn sealed(&self, signature: Signature<'_>) -> Result<String, serde_json::Error> {
        let Signature { key, at, by, why } = signature;
        let of_chain = |(id, ranges): (&'_ String, &'_ Ranges)| {
            let id = id.clone();
            ranges
                .iter()
                .map(move |(first, last, _)| ErasedRange { first, id: id.clone().into(), last })
                .collect::<Vec<_>>()
        };
        let record = Record {
            at: at.into(),
            chain: Some(Link { id: "".into(), key: key.id().into(), prev: "".into(), seq: 0 }),
            erasure: Some(Erasure {
                by: by.map(Into::into),
                count: self.count,
                ranges: self.chains.iter().flat_map(of_chain).collect(),
                why: why.map(Into::into),
            }),
            id: self.id.as_str().into(),
            kind: Kind::Erasure,
            reason: "erasure".into(),
            started: at.into(),
            v: VERSION,
            ..Record::default()
        };
        let record = serde_json::to_string(&record)?;
        Ok(line(&mac(key, record.as_bytes()), None, &record))
    }
}
