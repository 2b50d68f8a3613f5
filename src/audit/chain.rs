//! The chain that the records of one worker make.

use std::collections::BTreeMap;

use super::Entry;
use super::entry::Place;
use super::object::Object;
use super::record::{Anchor, Head, Kind, PolicyEvent};
use super::seal::Seal;
use crate::keys::NamedKey;
use crate::limits;
use crate::units::UnixMillis;

/// The chain of one worker: whatever it seals can neither be changed nor taken out without a trace.
///
/// It lives as long as the worker's virtual machine, whatever policies come and go.
#[derive(Debug)]
pub struct Chain {
    id: String,
    instance: String,
    resource: String,
    worker: String,
    started: String,
    next: u64,
    last: String,
    /// What the next record is to say about the policy.
    events: Vec<PolicyEvent<'static>>,
    /// What the next record is to say about other chains.
    heads: Vec<Head<'static>>,
    /// How far the other chains were when this one last said so.
    noted: BTreeMap<String, u64>,
    /// Number of the next record when the last checkpoint was made.
    checked: u64,
    /// The last checkpoint did not arrive.
    is_in_doubt: bool,
    /// The line that was written last: most are of about the same length.
    line: Vec<u8>,
}

impl Chain {
    /// A chain of random `id` that begins now, at the `worker` of the proxy `instance`, for requests to `resource`.
    pub fn new(id: String, instance: String, resource: String, worker: String, now: UnixMillis) -> Self {
        Self {
            id,
            instance,
            resource,
            worker,
            started: now.to_rfc3339().to_string(),
            next: 0,
            last: String::new(),
            events: Vec::new(),
            heads: Vec::new(),
            noted: BTreeMap::new(),
            checked: 0,
            is_in_doubt: false,
            line: Vec::new(),
        }
    }

    /// Lets the next record say what happened to the policy. Of too many events the oldest is lost to the record.
    pub fn note_event(&mut self, event: PolicyEvent<'static>) {
        if self.events.len() >= limits::MAX_PENDING_EVENTS {
            self.events.remove(0);
        }
        self.events.push(event);
    }

    /// Lets the next record say how far other chains are, as far as that is news.
    pub fn note_heads(&mut self, heads: impl IntoIterator<Item = Head<'static>>) {
        for head in heads {
            let is_news = self.noted.get(&*head.id).is_none_or(|seq| *seq < head.seq);
            if head.id == self.id || !is_news {
                continue;
            }
            // Of one chain the newest counts, however long no record comes.
            self.heads.retain(|pending| pending.id != head.id);
            if self.heads.len() >= limits::MAX_CHAIN_HEADS {
                continue;
            }
            if self.noted.len() >= limits::MAX_CHAIN_HEADS {
                self.noted.clear();
            }
            self.noted.insert(head.id.to_string(), head.seq);
            self.heads.push(head);
        }
    }

    /// Seals the next record: a line without its end.
    pub fn seal(&mut self, key: &NamedKey, entry: &Entry<'_>) -> &[u8] {
        let mut line = std::mem::take(&mut self.line);
        let place = Place {
            anchor: (self.next == 0).then(|| Anchor {
                resource: self.resource.as_str().into(),
                started: self.started.as_str().into(),
                version: env!("CARGO_PKG_VERSION").into(),
            }),
            prev: &self.last,
            seq: self.next,
            events: &self.events,
            heads: &self.heads,
            ..self.nowhere(key)
        };
        let seal = write(&mut line, key, entry, &place);
        self.events.clear();
        self.heads.clear();
        self.next = self.next.saturating_add(1);
        self.last.clear();
        self.last.push_str(seal.as_str());
        self.line = line;
        &self.line
    }

    /// Seals what is known of a request that has not ended yet. It has no place in the chain.
    pub fn seal_provisional(&mut self, key: &NamedKey, entry: &Entry<'_>) -> &[u8] {
        let mut line = std::mem::take(&mut self.line);
        write(&mut line, key, entry, &self.nowhere(key));
        self.line = line;
        &self.line
    }

    /// How many records were sealed since the last checkpoint.
    pub const fn unchecked(&self) -> u64 {
        self.next.saturating_sub(self.checked)
    }

    /// Whether there is anything to state that was not stated before, or did not arrive.
    pub const fn wants_checkpoint(&self) -> bool {
        self.unchecked() > 0 || self.is_in_doubt
    }

    /// Takes note that nobody wants to know how far the chain is, for now.
    pub const fn skip_checkpoint(&mut self) {
        self.checked = self.next;
    }

    /// Takes note that the last checkpoint did not arrive.
    pub const fn doubt_checkpoint(&mut self) {
        self.is_in_doubt = true;
    }

    /// States how far the chain is; `None` before its first record.
    pub fn checkpoint(&mut self, key: &NamedKey, id: &str, is_closing: bool, now: UnixMillis) -> Option<String> {
        let Head { mac, seq, .. } = self.head()?;
        let reason = if is_closing { "closing" } else { "checkpoint" };
        let entry = Entry { at: now, id, kind: Kind::Checkpoint, reason, started: now, ..Entry::default() };
        let mut line = Vec::new();
        write(&mut line, key, &entry, &Place { prev: &mac, seq, ..self.nowhere(key) });
        self.checked = self.next;
        self.is_in_doubt = false;
        String::from_utf8(line).ok()
    }

    /// How far the chain is; `None` before its first record.
    pub fn head(&self) -> Option<Head<'static>> {
        let seq = self.next.checked_sub(1)?;
        Some(Head { id: self.id.clone().into(), mac: self.last.clone().into(), seq })
    }

    /// What a record says of the chain that has no place in it.
    fn nowhere<'a>(&'a self, key: &'a NamedKey) -> Place<'a> {
        Place {
            anchor: None,
            chain: &self.id,
            key: key.id(),
            prev: "",
            seq: 0,
            events: &[],
            heads: &[],
            instance: &self.instance,
            worker: &self.worker,
        }
    }
}

/// Writes a record and its seal in place of what `line` holds. What it makes is what [`super::seal::line`] describes.
fn write(line: &mut Vec<u8>, key: &NamedKey, entry: &Entry<'_>, place: &Place<'_>) -> Seal {
    const BEFORE: &[u8] = b"{\"mac\":\"";
    line.clear();
    line.extend_from_slice(BEFORE);
    // The seal is not known yet.
    line.resize(BEFORE.len().saturating_add(Seal::LENGTH), b'-');
    line.push(b'"');
    let personal = entry.personal.as_ref().map(|personal| {
        line.extend_from_slice(b",\"personal\":");
        let start = line.len();
        personal.write(entry.caller, Object::begin(line));
        Seal::of_personal(line.get(start..).unwrap_or_default())
    });
    line.extend_from_slice(b",\"record\":");
    let start = line.len();
    entry.write(place, personal.as_ref(), Object::begin(line));
    let seal = Seal::of_record(key, line.get(start..).unwrap_or_default());
    line.push(b'}');
    for (place, byte) in line.iter_mut().skip(BEFORE.len()).zip(seal.as_str().bytes()) {
        *place = byte;
    }
    seal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Private, Salt, seal};

    fn key() -> NamedKey {
        NamedKey::new("k1", &[7; 32]).unwrap()
    }

    fn chain() -> Chain {
        let now = UnixMillis::new(1_800_000_000_123);
        Chain::new("c".repeat(32), "node".to_owned(), "r".to_owned(), "w".to_owned(), now)
    }

    fn parts(line: &[u8]) -> (String, serde_json::Value) {
        let line = str::from_utf8(line).unwrap();
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value.to_string(), line, "the members are in the order of their names");
        (value["mac"].as_str().unwrap().to_owned(), value["record"].clone())
    }

    #[test]
    fn each_record_names_the_seal_of_the_one_before() {
        let mut chain = chain();
        let (mac, record) = parts(chain.seal(&key(), &Entry::default()));
        assert_eq!(record["chain"]["prev"], "");
        assert_eq!(record["anchor"]["started"], "2027-01-15T08:00:00.123Z");
        let (second, record) = parts(chain.seal(&key(), &Entry::default()));
        assert_eq!((&record["chain"]["prev"], &record["chain"]["seq"]), (&mac.into(), &1.into()));
        assert!(record.get("anchor").is_none());
        let checkpoint = chain.checkpoint(&key(), "id", true, UnixMillis::new(0)).unwrap();
        let (_, record) = parts(checkpoint.as_bytes());
        assert_eq!((&record["chain"]["prev"], &record["chain"]["seq"]), (&second.into(), &1.into()));
        assert_eq!((&record["kind"], &record["reason"]), (&"checkpoint".into(), &"closing".into()));
        assert_eq!((chain.unchecked(), chain.wants_checkpoint()), (0, false));
        // One that did not arrive is made again, but is no flood of records that nobody stated.
        chain.doubt_checkpoint();
        assert_eq!((chain.unchecked(), chain.wants_checkpoint()), (0, true));
        chain.checkpoint(&key(), "id", false, UnixMillis::new(0)).unwrap();
        assert!(!chain.wants_checkpoint());
    }

    #[test]
    fn the_seal_is_over_the_record_and_the_digest_over_the_personal_part() {
        let salt = Salt::new(7);
        let personal = Private {
            approvers: Vec::new(),
            arguments: None,
            arguments_digest: None,
            outcome: BTreeMap::new(),
            salt: &salt,
            source: Some("192.0.2.7"),
            stated_purpose: None,
            unverified: None,
            uris: &[],
        };
        let entry = Entry { personal: Some(personal), ..Entry::default() };
        let mut chain = chain();
        let line = str::from_utf8(chain.seal(&key(), &entry)).unwrap();
        let text = |name: &str| {
            let value: BTreeMap<&str, &serde_json::value::RawValue> = serde_json::from_str(line).unwrap();
            value[name].get().to_owned()
        };
        assert_eq!(text("mac"), format!("\"{}\"", seal::mac(&key(), text("record").as_bytes())));
        let (_, record) = parts(line.as_bytes());
        assert_eq!(record["personal"], seal::personal_digest(text("personal").as_bytes()));
        assert_eq!(
            line,
            seal::line(&seal::mac(&key(), text("record").as_bytes()), Some(&text("personal")), &text("record"))
        );
    }

    #[test]
    fn heads_are_noted_once() {
        let mut chain = chain();
        let head = |seq| Head { id: "other".into(), mac: "m".into(), seq };
        let heads = |chain: &mut Chain| parts(chain.seal(&key(), &Entry::default())).1["heads"].clone();
        chain.note_heads([head(3)]);
        assert_eq!(heads(&mut chain)[0]["seq"], 3);
        chain.note_heads([head(3)]);
        assert!(heads(&mut chain).is_null());
        let own = chain.head();
        chain.note_heads(own.into_iter().chain([head(4)]));
        assert_eq!(heads(&mut chain).as_array().unwrap().len(), 1);
        // While no record comes the newest takes the place of the others.
        for seq in 5..300 {
            chain.note_heads([head(seq)]);
        }
        let noted = heads(&mut chain);
        assert_eq!((noted.as_array().unwrap().len(), &noted[0]["seq"]), (1, &299.into()));
    }
}
