//! The chain that the records of one worker make.

use std::collections::BTreeMap;

use super::record::{Anchor, Head, Kind, Link, Personal, PolicyEvent, Record, VERSION, Verdict};
use super::seal;
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
}

/// A record before it has its place in a chain.
#[derive(Debug, Default)]
pub struct Entry<'a> {
    /// What is sealed.
    pub record: Record<'a>,
    /// What can be erased.
    pub personal: Option<Personal<'a>>,
}

impl Chain {
    /// A chain of random `id` that begins now, at the `worker` of the proxy `instance`, for requests to `resource`.
    pub fn new(id: String, instance: String, resource: String, worker: String, now: UnixMillis) -> Self {
        Self {
            id,
            instance,
            resource,
            worker,
            started: now.to_rfc3339(),
            next: 0,
            last: String::new(),
            events: Vec::new(),
            heads: Vec::new(),
            noted: BTreeMap::new(),
            checked: 0,
            is_in_doubt: false,
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

    /// Seals the next record: a line without its end. `None` if it cannot be written as JSON, which no record causes.
    pub fn seal(&mut self, key: &NamedKey, entry: Entry<'_>) -> Option<String> {
        let Entry { mut record, personal } = entry;
        record.anchor = (self.next == 0).then(|| Anchor {
            resource: self.resource.clone().into(),
            started: self.started.clone().into(),
            version: env!("CARGO_PKG_VERSION").into(),
        });
        record.events = std::mem::take(&mut self.events);
        record.heads = std::mem::take(&mut self.heads);
        let (id, last) = (std::mem::take(&mut self.id), std::mem::take(&mut self.last));
        let link = Link { id: id.as_str().into(), key: key.id().into(), prev: last.as_str().into(), seq: self.next };
        let sealed = self.sealed(key, Entry { record, personal }, link);
        self.id = id;
        // A record that could not be written leaves a gap.
        self.next = self.next.saturating_add(1);
        let (line, mac) = sealed?;
        self.last = mac;
        Some(line)
    }

    /// Seals what is known of a request that has not ended yet. It has no place in the chain.
    pub fn seal_provisional(&self, key: &NamedKey, entry: Entry<'_>) -> Option<String> {
        let link = Link { id: self.id.as_str().into(), key: key.id().into(), ..Link::default() };
        let (line, _) = self.sealed(key, entry, link)?;
        Some(line)
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
    pub fn checkpoint(&mut self, key: &NamedKey, id: String, is_closing: bool, now: UnixMillis) -> Option<String> {
        let Head { mac, seq, .. } = self.head()?;
        let at = now.to_rfc3339();
        let record = Record {
            at: at.as_str().into(),
            id: id.into(),
            kind: Kind::Checkpoint,
            reason: if is_closing { "closing".into() } else { "checkpoint".into() },
            started: at.as_str().into(),
            verdict: Verdict::None,
            ..Record::default()
        };
        let link = Link { id: self.id.as_str().into(), key: key.id().into(), prev: mac, seq };
        let (line, _) = self.sealed(key, Entry { record, personal: None }, link)?;
        self.checked = self.next;
        self.is_in_doubt = false;
        Some(line)
    }

    /// How far the chain is; `None` before its first record.
    pub fn head(&self) -> Option<Head<'static>> {
        let seq = self.next.checked_sub(1)?;
        Some(Head { id: self.id.clone().into(), mac: self.last.clone().into(), seq })
    }

    fn sealed(&self, key: &NamedKey, entry: Entry<'_>, link: Link<'_>) -> Option<(String, String)> {
        let Entry { mut record, personal } = entry;
        let personal = personal.map(|personal| serde_json::to_string(&personal)).transpose().ok()?;
        let digest = personal.as_deref().map(|personal| seal::personal_digest(personal.as_bytes()));
        record.v = VERSION;
        record.chain = Some(link);
        record.instance = self.instance.as_str().into();
        record.worker = self.worker.as_str().into();
        record.personal = digest.as_deref().map(Into::into);
        let record = serde_json::to_string(&record).ok()?;
        let mac = seal::mac(key, record.as_bytes());
        Some((seal::line(&mac, personal.as_deref(), &record), mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> NamedKey {
        NamedKey::new("k1", &[7; 32]).unwrap()
    }

    fn chain() -> Chain {
        let now = UnixMillis::new(1_800_000_000_123);
        Chain::new("c".repeat(32), "node".to_owned(), "r".to_owned(), "w".to_owned(), now)
    }

    fn parts(line: &str) -> (String, serde_json::Value) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value.to_string(), line, "the members are in the order of their names");
        (value["mac"].as_str().unwrap().to_owned(), value["record"].clone())
    }

    #[test]
    fn each_record_names_the_seal_of_the_one_before() {
        let mut chain = chain();
        let (mac, record) = parts(&chain.seal(&key(), Entry::default()).unwrap());
        assert_eq!(record["chain"]["prev"], "");
        assert_eq!(record["anchor"]["started"], "2027-01-15T08:00:00.123Z");
        let (second, record) = parts(&chain.seal(&key(), Entry::default()).unwrap());
        assert_eq!((&record["chain"]["prev"], &record["chain"]["seq"]), (&mac.into(), &1.into()));
        assert!(record.get("anchor").is_none());
        let checkpoint = chain.checkpoint(&key(), "id".to_owned(), true, UnixMillis::new(0)).unwrap();
        let (_, record) = parts(&checkpoint);
        assert_eq!((&record["chain"]["prev"], &record["chain"]["seq"]), (&second.into(), &1.into()));
        assert_eq!((&record["kind"], &record["reason"]), (&"checkpoint".into(), &"closing".into()));
        assert_eq!((chain.unchecked(), chain.wants_checkpoint()), (0, false));
        // One that did not arrive is made again, but is no flood of records that nobody stated.
        chain.doubt_checkpoint();
        assert_eq!((chain.unchecked(), chain.wants_checkpoint()), (0, true));
        chain.checkpoint(&key(), "id".to_owned(), false, UnixMillis::new(0)).unwrap();
        assert!(!chain.wants_checkpoint());
    }

    #[test]
    fn the_seal_is_over_the_record_and_the_digest_over_the_personal_part() {
        let personal = Personal { salt: "s".into(), subject: Some("alice".into()), ..Personal::default() };
        let entry = Entry { personal: Some(personal), ..Entry::default() };
        let line = chain().seal(&key(), entry).unwrap();
        let text = |name: &str| {
            let value: BTreeMap<&str, &serde_json::value::RawValue> = serde_json::from_str(&line).unwrap();
            value[name].get().to_owned()
        };
        assert_eq!(text("mac"), format!("\"{}\"", seal::mac(&key(), text("record").as_bytes())));
        let (_, record) = parts(&line);
        assert_eq!(record["personal"], seal::personal_digest(text("personal").as_bytes()));
    }

    #[test]
    fn heads_are_noted_once() {
        let mut chain = chain();
        let head = |seq| Head { id: "other".into(), mac: "m".into(), seq };
        let heads = |chain: &mut Chain| parts(&chain.seal(&key(), Entry::default()).unwrap()).1["heads"].clone();
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
