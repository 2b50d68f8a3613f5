//! Takes the lines of a log one after the other, and remembers what it must.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use toolgate::audit::record::{Kind, Link, Record};
use toolgate::audit::seal::personal_digest;

use super::chain::{Mac, Seen, Sequence};
use super::claims::{Claim, ClaimSource, Claims};
use super::defect::{Defect, DefectKind, Defects};
use super::erasures::Erasures;
use super::recent::Recent;
use super::tally::Tally;
use crate::log::line::erased_part;
use crate::log::{Damage, End, Entry, Envelope, Form, Keys, Line, Place, RawLine, Reading, Seal};

/// Requests that were let through and whose end has not come, by id.
const MAX_OPEN_REQUESTS: usize = 100_000;
/// Chains that are known only from lines that are not sealed.
const MAX_UNSEALED_CHAINS: usize = 1000;
/// Checkpoints that are told apart.
const MAX_CHECKPOINTS: usize = 4096;

/// Names of members that hold records, and lines that may be marks of requests without one.
const MAX_HOLDERS: usize = 64;
const MAX_EMPTY: usize = 10_000;

/// Longest id of a record, a chain or a key, in bytes. Those that are remembered must not fill the memory.
const MAX_ID_BYTES: usize = 256;

/// What is asked of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demands {
    /// Each chain must be closed.
    pub(super) closed: bool,
    /// Chains may have begun before the log.
    pub(super) continued: bool,
    /// Lines that are no records do not matter.
    pub(super) ignore_other_lines: bool,
}

/// A chain.
#[derive(Debug)]
pub(super) struct Chain {
    index: usize,
    pub(super) sequence: Sequence,
    pub(super) claims: Claims,
    /// Its first record in the log: number and time.
    pub(super) first: Option<(u64, Box<str>)>,
    /// The first closing checkpoint: number and place.
    closing: Option<(u64, Place)>,
    /// The highest record: number and place.
    highest: Option<(u64, Place)>,
    /// Whether a checkpoint that was stored elsewhere is about it.
    pub(super) is_stored: bool,
    /// The first record that came although the chain was closed before it.
    after_closing: Option<Place>,
    pub(super) instance: String,
    pub(super) worker: String,
}

impl Chain {
    fn new(id: &str, index: usize) -> Self {
        let (instance, worker) = (String::new(), String::new());
        Self {
            index,
            sequence: Sequence::new(id),
            claims: Claims::default(),
            first: None,
            closing: None,
            highest: None,
            is_stored: false,
            after_closing: None,
            instance,
            worker,
        }
    }
}

/// Everything that is remembered of a log.
#[derive(Debug)]
pub(super) struct Verifier<'a> {
    keys: &'a Keys,
    demands: Demands,
    pub(super) defects: Defects,
    pub(super) chains: BTreeMap<Box<str>, Chain>,
    pub(super) erasures: Erasures,
    pub(super) tally: Tally,
    recent: Recent,
    open_requests: BTreeSet<Box<str>>,
    has_lost_requests: bool,
    checkpoints: VecDeque<Mac>,
    unsealed_chains: usize,
    /// Members of lines that have held a record.
    holders: BTreeSet<Box<str>>,
    /// Members that were empty in lines of nobody's.
    empty: Vec<(Box<str>, Place)>,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(keys: &'a Keys, demands: Demands, max_defects: usize) -> Self {
        Self {
            keys,
            demands,
            defects: Defects::new(max_defects),
            chains: BTreeMap::new(),
            erasures: Erasures::default(),
            tally: Tally::default(),
            recent: Recent::new(),
            open_requests: BTreeSet::new(),
            has_lost_requests: false,
            checkpoints: VecDeque::new(),
            unsealed_chains: 0,
            holders: BTreeSet::new(),
            empty: Vec::new(),
        }
    }

    /// Requests that were let through and whose end is not in the log; whether there are more.
    pub(super) fn unended(&self) -> (usize, bool) {
        (self.open_requests.len(), self.has_lost_requests)
    }

    /// Takes a line of the log.
    pub(super) fn line(&mut self, raw: &RawLine<'_>) {
        self.tally.line();
        if self.is_whole(raw) {
            self.each_entry(raw, Self::entry);
        }
    }

    /// Takes a line of a store of checkpoints.
    pub(super) fn stored_checkpoint(&mut self, raw: &RawLine<'_>) {
        if self.is_whole(raw) {
            self.each_entry(raw, Self::stored_entry);
        }
    }

    /// The log has ended.
    pub(super) fn finish(&mut self) {
        let Demands { closed, continued, ignore_other_lines: _ } = self.demands;
        for (id, chain) in &mut self.chains {
            chain.sequence.finish(continued, &mut self.defects);
            check_end(id, chain, continued.then_some(self.tally.span.as_ref()), &mut self.defects);
            check_closing(id, chain, &mut self.defects);
            let Some(last) = chain.sequence.last().filter(|_| closed) else { continue };
            if !chain.claims.is_closed_at(last.seq) {
                let detail = "no closing checkpoint names the last record of the chain";
                let defect = Defect::new(DefectKind::NotClosed, last.place, detail).of_record(&last.id);
                self.defects.push(defect.in_chain(id, last.seq, last.seq));
            }
        }
        let mut empty = std::mem::take(&mut self.empty);
        empty.retain(|(name, _)| self.holders.contains(name));
        empty.dedup_by_key(|(_, place)| *place);
        empty.into_iter().for_each(|(_, place)| self.no_record(place));
        self.erasures.finish(&mut self.defects);
    }

    /// Whether the line is there to its end. The last one counts without its line feed, but that is a defect.
    fn is_whole(&mut self, raw: &RawLine<'_>) -> bool {
        let (kind, detail) = match raw.end {
            End::LineFeed => return true,
            End::Input => (DefectKind::Cut, "the last line has no line feed: the input was cut off here".to_owned()),
            End::TooLong => (DefectKind::Unreadable, "the line is longer than any line of a log".to_owned()),
            End::Broken(reason) => {
                (DefectKind::Cut, format!("the compressed data cannot be read from here on: {reason}"))
            }
        };
        self.defects.push(Defect::new(kind, raw.place, detail));
        matches!(raw.end, End::Input) && matches!(Line::read(raw.bytes), Line::Records(_) | Line::NoRecord)
    }

    fn each_entry(&mut self, raw: &RawLine<'_>, take: fn(&mut Self, Place, &Entry<'_>)) {
        let Reading { line, beside, without_record, holders, empty } = Reading::new(raw.bytes);
        (0..without_record).for_each(|_| self.no_record(raw.place));
        for holder in holders {
            if self.holders.len() < MAX_HOLDERS && !self.holders.contains(&*holder) {
                self.holders.insert(holder.into());
            }
        }
        match line {
            Line::Records(entries) => self.records(raw.place, &entries, &beside, take),
            Line::NoRecord => self.no_record(raw.place),
            Line::Damaged(damage) => {
                beside.iter().chain([&damage]).for_each(|damage| self.damaged(raw.place, damage));
            }
            Line::Other if without_record > 0 => {}
            // Among lines of others, only a member counts that holds the records of other lines, maybe of later ones.
            Line::Other if self.demands.ignore_other_lines => {
                let names = empty.into_iter().map(|name| (name.into(), raw.place));
                self.empty.extend(names.take(MAX_EMPTY.saturating_sub(self.empty.len())));
            }
            Line::Other if !empty.is_empty() => self.no_record(raw.place),
            Line::Other => {
                let detail = "the line is no record (--ignore-other-lines passes over such lines)";
                self.defects.push(Defect::new(DefectKind::Unreadable, raw.place, detail));
            }
        }
    }

    fn no_record(&mut self, place: Place) {
        let detail = "a request without a record: the filter did not run, or had died";
        self.defects.push(Defect::new(DefectKind::NoRecord, place, detail));
    }

    /// The records of a line. Beside one that is sealed, text that goes on as a record does is what a client has chosen,
    /// unless it is all of its string.
    fn records(
        &mut self,
        place: Place,
        entries: &[Entry<'_>],
        beside: &[Damage<'_>],
        take: fn(&mut Self, Place, &Entry<'_>),
    ) {
        let is_sealed = |entry: &Entry<'_>| {
            let chain = entry.envelope.claim().chain;
            chain.is_some_and(|link| self.keys.check(&entry.envelope, &link.key) == Seal::Valid)
        };
        let has_text = beside.iter().any(|damage| damage.is_behind_text)
            || entries.len() > 1 && entries.iter().any(|entry| entry.is_behind_text);
        let passes_over_text = has_text && entries.iter().any(is_sealed);
        let taken: Vec<&Entry<'_>> =
            entries.iter().filter(|entry| !(passes_over_text && entry.is_behind_text && !is_sealed(entry))).collect();
        taken.into_iter().for_each(|entry| take(self, place, entry));
        let damaged = beside.iter().filter(|damage| !(passes_over_text && damage.is_behind_text));
        damaged.for_each(|damage| self.damaged(place, damage));
    }

    fn damaged(&mut self, place: Place, damage: &Damage<'_>) {
        let claim = damage.claim();
        let whole = if damage.form == Form::Exact { "line" } else { "text" };
        let detail = format!("the {whole} begins as a record and is none: {}", damage.problem);
        self.unsealed((DefectKind::Changed, damage.form), place, claim.chain.as_ref(), claim.id.as_deref(), detail);
    }

    /// A record, of whatever kind.
    fn entry(&mut self, place: Place, entry: &Entry<'_>) {
        let Some(record) = self.sealed(place, entry) else { return };
        let (Some(link), Some(mac)) = (&record.chain, decode(&entry.envelope.mac)) else { return };
        self.tally.record(&record, entry.form);
        self.personal(place, &entry.envelope, &record, link);
        match record.kind {
            Kind::Request => self.request(place, &record, link, mac),
            Kind::Provisional => self.provisional(&record),
            Kind::Checkpoint => {
                if self.checkpoints.contains(&mac) {
                    let detail = "the checkpoint is there already";
                    let defect = Defect::new(DefectKind::Duplicate, place, detail).of_record(&record.id);
                    return self.defects.push(defect.in_chain(&link.id, link.seq, link.seq));
                }
                self.checkpoints.push_back(mac);
                if self.checkpoints.len() > MAX_CHECKPOINTS {
                    self.checkpoints.pop_front();
                }
                self.checkpoint(place, &record, link);
            }
            Kind::Erasure => match &record.erasure {
                Some(erasure) => self.erasures.said(&record.id, erasure, place, &mut self.defects),
                None => self.defects.push(Defect::new(DefectKind::Unreadable, place, "an erasure of nothing")),
            },
        }
    }

    fn stored_entry(&mut self, place: Place, entry: &Entry<'_>) {
        let Some(record) = self.sealed(place, entry) else { return };
        match &record.chain {
            Some(link) if record.kind == Kind::Checkpoint => {
                self.checkpoint(place, &record, link);
                self.chain(&link.id).is_stored = true;
            }
            Some(_) | None => {
                let detail = "a record that is no checkpoint, among checkpoints";
                self.defects.push(Defect::new(DefectKind::Unreadable, place, detail).of_record(&record.id));
            }
        }
    }

    /// The record, if it is as it was sealed. Nothing of another one can be relied upon.
    fn sealed<'e>(&mut self, place: Place, entry: &'e Entry<'_>) -> Option<Record<'e>> {
        let envelope = &entry.envelope;
        let parsed = envelope.record();
        let claim = match &parsed {
            // No need to read it twice.
            Ok(Record { chain: Some(link), id, .. }) => (Some(link.clone()), Some(id.clone())),
            Ok(_) | Err(_) => {
                let claim = envelope.claim();
                (claim.chain, claim.id)
            }
        };
        let (chain, id) = (claim.0.as_ref(), claim.1.as_deref());
        let key = chain.map_or("", |link| &link.key);
        let (kind, detail) = match (self.keys.check(envelope, key), parsed) {
            (Seal::Valid, Ok(_)) if !is_short(chain, id) => {
                (DefectKind::Unreadable, format!("an id of the record is longer than {MAX_ID_BYTES} bytes"))
            }
            (Seal::Valid, Ok(record)) if entry.is_exact => return Some(record),
            (Seal::Valid, Ok(_)) => (DefectKind::Changed, "the line has bytes that no filter writes".to_owned()),
            (Seal::Valid, Err(error)) => {
                (DefectKind::Unreadable, format!("the record is sealed, but of no form that is known here: {error}"))
            }
            (Seal::Wrong, _) => (DefectKind::Changed, "the record is not as it was sealed".to_owned()),
            (Seal::UnknownKey, _) if chain.is_none() => {
                (DefectKind::Changed, "the record does not say where it belongs".to_owned())
            }
            (Seal::UnknownKey, _) if !is_short(chain, id) => {
                (DefectKind::Unreadable, format!("an id of the record is longer than {MAX_ID_BYTES} bytes"))
            }
            (Seal::UnknownKey, _) => {
                (DefectKind::UnknownKey, format!("the record names the key `{key}`: give it with --key {key}=VARIABLE"))
            }
        };
        self.unsealed((kind, entry.form), place, chain, id, detail);
        None
    }

    /// Something that is a defect, and claims to be some record.
    ///
    /// Only a line that is nothing else can stand for the record that it claims to be. What is in other text may be of a
    /// client's choice, who could pass off as damaged what was removed.
    fn unsealed(
        &mut self,
        (kind, form): (DefectKind, Form),
        place: Place,
        link: Option<&Link<'_>>,
        id: Option<&str>,
        detail: String,
    ) {
        let mut defect = Defect::new(kind, place, detail);
        let (link, id) = if is_short(link, id) { (link, id) } else { (None, None) };
        if let Some(id) = id {
            defect = defect.of_record(id);
        }
        if let Some(link) = link {
            defect = defect.in_chain(&link.id, link.seq, link.seq);
            let is_known = self.chains.contains_key(&*link.id);
            if form == Form::Exact && (is_known || self.unsealed_chains < MAX_UNSEALED_CHAINS) {
                self.unsealed_chains = self.unsealed_chains.saturating_add(usize::from(!is_known));
                self.chain(&link.id).sequence.note_damaged(link.seq, place);
            }
        }
        self.defects.push(defect);
    }

    /// The chain `id`, which begins now if it is new.
    fn chain(&mut self, id: &str) -> &mut Chain {
        let index = self.chains.len();
        self.chains.entry(id.into()).or_insert_with(|| Chain::new(id, index))
    }

    fn personal(&mut self, place: Place, envelope: &Envelope<'_>, record: &Record<'_>, link: &Link<'_>) {
        let detail = match (&record.personal, &envelope.personal) {
            (None, None) => return,
            (Some(digest), Some(personal)) => {
                if let Some(id) = envelope.erased_by().filter(|id| *personal == erased_part(id)) {
                    let link = (record.kind == Kind::Request).then_some((&*link.id, link.seq));
                    return self.erasures.found(&id, link, place);
                }
                if personal_digest(personal.as_bytes()) == *digest {
                    return;
                }
                "the personal part is not as it was written"
            }
            (Some(_), None) => "the personal part is missing",
            (None, Some(_)) => "the record has a personal part that is not its own",
        };
        let defect = Defect::new(DefectKind::PersonalChanged, place, detail).of_record(&record.id);
        self.defects.push(defect.in_chain(&link.id, link.seq, link.seq));
    }

    fn request(&mut self, place: Place, record: &Record<'_>, link: &Link<'_>, mac: Mac) {
        if !self.open_requests.is_empty() {
            self.open_requests.remove(&*record.id);
        }
        if record.anchor.is_some() != (link.seq == 0) {
            let detail =
                if link.seq == 0 { "the chain begins without an anchor" } else { "an anchor inside of a chain" };
            let defect = Defect::new(DefectKind::Anchor, place, detail).of_record(&record.id);
            self.defects.push(defect.in_chain(&link.id, link.seq, link.seq));
        }
        for head in &record.heads {
            self.claim(&head.id, head.seq, &head.mac, &record.at, place, ClaimSource::Head);
        }
        let prev = (!link.prev.is_empty()).then(|| decode(&link.prev).unwrap_or_default());
        let seen = Seen { seq: link.seq, mac, prev, place, id: (*record.id).into(), at: (*record.at).into() };
        let index = self.chains.len();
        let chain = self.chains.entry((*link.id).into()).or_insert_with(|| Chain::new(&link.id, index));
        if chain.first.as_ref().is_none_or(|(first, _)| link.seq < *first) {
            chain.first = Some((link.seq, seen.at.clone()));
            chain.instance = record.instance.clone().into_owned();
            chain.worker = record.worker.clone().into_owned();
        }
        if chain.closing.is_some_and(|(closed, _)| closed < link.seq) {
            chain.after_closing.get_or_insert(place);
        }
        if chain.highest.is_none_or(|(highest, _)| highest < link.seq) {
            chain.highest = Some((link.seq, place));
        }
        let known = self.recent.get(chain.index, link.seq);
        chain.sequence.take(seen, known, &mut self.defects);
        chain.claims.arrived(&link.id, link.seq, mac, &mut self.defects);
        self.recent.insert(chain.index, link.seq, mac);
    }

    fn provisional(&mut self, record: &Record<'_>) {
        if self.open_requests.len() < MAX_OPEN_REQUESTS {
            self.open_requests.insert((*record.id).into());
        } else if !self.open_requests.contains(&*record.id) {
            self.has_lost_requests = true;
        }
    }

    fn checkpoint(&mut self, place: Place, record: &Record<'_>, link: &Link<'_>) {
        let source = if record.reason == "closing" { ClaimSource::Closing } else { ClaimSource::Checkpoint };
        self.claim(&link.id, link.seq, &link.prev, &record.at, place, source);
    }

    fn claim(&mut self, id: &str, seq: u64, mac: &str, at: &str, place: Place, source: ClaimSource) {
        let claim = Claim { seq, mac: decode(mac).unwrap_or_default(), at: at.to_owned(), place, source };
        let index = self.chains.len();
        let chain = self.chains.entry(id.into()).or_insert_with(|| Chain::new(id, index));
        if source == ClaimSource::Closing && chain.closing.is_none_or(|(closed, _)| seq < closed) {
            chain.closing = Some((seq, place));
        }
        let known = self.recent.get(chain.index, seq);
        let last = chain.sequence.last();
        let known = known.or_else(|| last.filter(|last| last.seq == seq).map(|last| last.mac));
        if known.is_some() || last.is_some_and(|last| seq < last.seq) {
            chain.claims.check(id, claim, known, &mut self.defects);
        } else {
            chain.claims.wait(claim);
        }
    }
}

/// Nothing follows a closing checkpoint.
fn check_closing(id: &str, chain: &Chain, defects: &mut Defects) {
    let (Some((closed, checkpoint)), Some((highest, place))) = (chain.closing, chain.highest) else { return };
    if highest > closed {
        let detail = format!("the chain goes on although it was closed after record {closed}");
        let defect = Defect::new(DefectKind::AfterClosing, chain.after_closing.unwrap_or(place), detail);
        defects.push(defect.in_chain(id, closed.saturating_add(1), highest).beside(checkpoint));
    }
}

/// Holds the end of a chain against what was said of it. `continued` is the time of a log that goes on from another one.
fn check_end(id: &str, chain: &Chain, continued: Option<Option<&(String, String)>>, defects: &mut Defects) {
    let Some(claim) = chain.claims.highest_waiting() else { return };
    match chain.sequence.last() {
        Some(last) if claim.seq > last.seq => {
            let first = last.seq.saturating_add(1);
            if chain.sequence.is_all_damaged(first, claim.seq) {
                return;
            }
            let detail = format!(
                "the chain ends here with record {}, but record {} existed at {}",
                last.seq, claim.seq, claim.at
            );
            let defect = Defect::new(DefectKind::CutOff, last.place, detail).beside(claim.place);
            defects.push(defect.in_chain(id, first, claim.seq));
        }
        None => {
            // The whole chain may be in the log before, unless a checkpoint is of the time of this one.
            let claim = match continued {
                None => Some(claim),
                Some(span) => span.and_then(|(from, until)| chain.claims.checkpoint_within(from, until)),
            };
            let Some(claim) = claim else { return };
            let detail = format!("no record of this chain is there, but record {} existed at {}", claim.seq, claim.at);
            defects.push(Defect::new(DefectKind::ChainMissing, claim.place, detail).in_chain(id, 0, claim.seq));
        }
        Some(_) => {}
    }
}

/// Whether a place and an id can be remembered.
fn is_short(link: Option<&Link<'_>>, id: Option<&str>) -> bool {
    let ids = link.into_iter().flat_map(|link| [&*link.id, &*link.key]);
    ids.chain(id).all(|id| id.len() <= MAX_ID_BYTES)
}

fn decode(mac: &str) -> Option<Mac> {
    let mut decoded = Mac::default();
    let length = URL_SAFE_NO_PAD.decode_slice(mac, &mut decoded).ok()?;
    (length == decoded.len()).then_some(decoded)
}
