//! A line of a log, and the records in it.
//!
//! Sinks carry a record in four forms: as the whole line, behind other text, as a string in other JSON (in Base64 if they
//! take it for bytes), and as an object that something has parsed and written anew. In the first three the bytes must be
//! the ones that were sealed; of the fourth the canonical form (RFC 8785) is taken, which is what was sealed.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use toolgate::audit::record::{Link, Personal, Record};
use toolgate::audit::seal;

use super::wrapped;

/// What every record begins with.
pub(crate) const START: &str = r#"{"mac":"#;

/// What the filter writes before a record in Envoy's own log.
const PREFIX: &str = "toolgate audit ";

/// [`START`] in Base64, which is how protobuf's JSON writes bytes: Envoy's gRPC access log service takes records for such.
pub(crate) const START_IN_BASE64: &str = "eyJtYWMiO";

/// What Envoy writes for a request that no filter has left a record for.
const NO_RECORD: &[u8] = b"-";

/// What a line holds.
#[derive(Debug)]
pub enum Line<'a> {
    /// Records, at least one.
    Records(Vec<Entry<'a>>),
    /// The mark of a request without a record.
    NoRecord,
    /// Something that begins as a record does, and is none.
    Damaged(Damage<'a>),
    /// Something else.
    Other,
}

/// A line, with what stands in it beside its records.
#[derive(Debug)]
pub struct Reading<'a> {
    /// What the line holds.
    pub line: Line<'a>,
    /// Beside records: what begins as a record does, and is none.
    pub beside: Vec<Damage<'a>>,
    /// Marks of requests without a record in the bodies of OpenTelemetry's log records.
    pub without_record: usize,
    /// Members of the line, as an object, that hold a record.
    pub holders: Vec<Cow<'a, str>>,
    /// If there is none: its members that are `null` or `-`, as one is that has no record to hold.
    pub empty: Vec<Cow<'a, str>>,
}

impl<'a> From<Line<'a>> for Reading<'a> {
    fn from(line: Line<'a>) -> Self {
        Self { line, beside: Vec::new(), without_record: 0, holders: Vec::new(), empty: Vec::new() }
    }
}

/// How a record is written.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Form {
    /// As the whole line.
    Exact,
    /// Behind other text.
    Prefixed,
    /// As a string in other JSON.
    Wrapped,
    /// As an object that something has parsed and written anew.
    Rewritten,
}

/// A record as it was found.
#[derive(Debug)]
pub struct Entry<'a> {
    /// How it is written.
    pub form: Form,
    /// Its parts.
    pub envelope: Envelope<'a>,
    /// Whether its bytes are the ones that were written, as far as they are not sealed.
    pub is_exact: bool,
    /// Whether there is other text before it in the same string or line, which somebody else may have chosen.
    pub is_behind_text: bool,
    pub(super) site: Option<Site>,
}

/// Where the personal part of a record is written.
#[derive(Clone, Debug)]
pub(super) enum Site {
    /// These bytes of the line.
    Plain(Range<usize>),
    /// The bytes `token` of the line are a JSON string; the part is the bytes `part` of its value.
    Quoted { token: Range<usize>, value: String, part: Range<usize> },
    /// The same with a string in Base64, whose decoded value this is.
    Encoded { token: Range<usize>, value: String, part: Range<usize> },
}

/// The parts of a record, each in its canonical form.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The seal.
    pub mac: Cow<'a, str>,
    /// What can be erased.
    pub personal: Option<Cow<'a, str>>,
    /// What is sealed.
    pub record: Cow<'a, str>,
}

/// The personal part of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum PersonalPart<'a> {
    /// It is there.
    Kept(Box<Personal<'a>>),
    /// It was erased: the id of the record of that.
    Erased(Cow<'a, str>),
}

impl<'a> PersonalPart<'a> {
    /// What it says, unless it was erased.
    pub fn kept(&self) -> Option<&Personal<'a>> {
        match self {
            Self::Kept(personal) => Some(personal),
            Self::Erased(_) => None,
        }
    }
}

/// What stands for an erased personal part.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Erased<'a> {
    #[serde(borrow)]
    erased: Cow<'a, str>,
}

/// What is left of a record that is none any more.
#[derive(Clone, Debug)]
pub struct Damage<'a> {
    /// What is wrong with it.
    pub problem: String,
    /// How it was written.
    pub form: Form,
    /// Whether there is other text before it in the same string or line, which somebody else may have chosen.
    pub is_behind_text: bool,
    pub(super) text: Cow<'a, str>,
}

/// What a record claims to be, when nothing else of it can be understood.
#[derive(Debug, Default, Deserialize)]
pub struct Claim<'a> {
    /// Its place.
    #[serde(borrow, default)]
    pub chain: Option<Link<'a>>,
    /// Its id.
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    mac: Cow<'a, str>,
    #[serde(borrow, default)]
    personal: Option<&'a RawValue>,
    #[serde(borrow)]
    record: &'a RawValue,
}

impl<'a> Line<'a> {
    /// Finds the records in a line.
    pub fn read(line: &'a [u8]) -> Self {
        Reading::new(line).line
    }

    fn not_text(line: &'a [u8], valid: usize) -> Self {
        let text = String::from_utf8_lossy(line);
        let Some(start) = start_of(&text) else { return Self::Other };
        let problem = format!("byte {} is not UTF-8", valid.saturating_add(1));
        Self::Damaged(Damage { problem, form: form_at(start), is_behind_text: start > 0, text })
    }

    /// The record from byte `start` of `text` to its end.
    fn exact(text: &'a str, start: usize) -> Self {
        match read_exact(text, start) {
            Ok((envelope, is_exact, part)) => {
                let (form, is_behind_text, site) = (form_at(start), start > 0, part.map(Site::Plain));
                Self::Records(vec![Entry { form, envelope, is_exact, is_behind_text, site }])
            }
            Err(damage) => Self::Damaged(damage),
        }
    }
}

impl<'a> Reading<'a> {
    /// Finds the records in a line, and what was meant to be one.
    pub fn new(line: &'a [u8]) -> Self {
        if line == NO_RECORD {
            return Line::NoRecord.into();
        }
        let text = match str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => return Line::not_text(line, error.valid_up_to()).into(),
        };
        if text.starts_with(START) {
            return Line::exact(text, 0).into();
        }
        if let Some(found) = wrapped::find(text) {
            return found;
        }
        start_of(text).or_else(|| behind_runtime(text)).map_or(Line::Other, |start| Line::exact(text, start)).into()
    }
}

/// Where in `text` a record begins: at its beginning, or behind [`PREFIX`]. In any other place it is what a client has
/// had written, in a header for example.
fn start_of(text: &str) -> Option<usize> {
    if text.starts_with(START) {
        return Some(0);
    }
    text.match_indices(PREFIX)
        .map(|(at, _)| at.saturating_add(PREFIX.len()))
        .find(|start| text.get(*start..).is_some_and(|rest| rest.starts_with(START)))
}

/// Where a record begins behind the words that container runtimes put before each line (CRI: time, stream and `F` for a
/// whole line), which no client can write.
fn behind_runtime(text: &str) -> Option<usize> {
    let mut rest = text;
    let mut word = || {
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        Some(word)
    };
    let is_time = word()?.bytes().all(|byte| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte));
    let is_stream = matches!(word()?, "stdout" | "stderr");
    let is_full = word()? == "F";
    (is_time && is_stream && is_full && rest.starts_with(START)).then(|| text.len().saturating_sub(rest.len()))
}

const fn form_at(start: usize) -> Form {
    if start == 0 { Form::Exact } else { Form::Prefixed }
}

/// The record from byte `start` of `text` to its end; whether it is written as it should; which bytes of `text` are
/// its personal part.
fn read_exact(text: &str, start: usize) -> Result<(Envelope<'_>, bool, Option<Range<usize>>), Damage<'_>> {
    let written = text.get(start..).unwrap_or_default();
    let Raw { mac, personal, record } = serde_json::from_str(written).map_err(|error| Damage {
        problem: error.to_string(),
        form: form_at(start),
        is_behind_text: start > 0,
        text: written.into(),
    })?;
    let (personal, record) = (personal.map(RawValue::get), record.get());
    let is_exact = seal::line(&mac, personal, record) == written;
    let part = personal.map(|personal| span_of(personal, text));
    Ok((Envelope { mac, personal: personal.map(Cow::Borrowed), record: Cow::Borrowed(record) }, is_exact, part))
}

/// The record in the value of a JSON string, which may be in Base64, or end in a line feed as in the logs of Docker.
pub(super) fn in_string(token: Range<usize>, value: Cow<'_, str>) -> Option<Result<Entry<'static>, Damage<'static>>> {
    let decoded = value.starts_with(START_IN_BASE64).then(|| STANDARD.decode(value.as_bytes()));
    let (value, is_encoded) = match decoded {
        Some(Ok(bytes)) => (String::from_utf8_lossy(&bytes).into_owned(), true),
        Some(Err(_)) => {
            let problem = "the Base64 is damaged".to_owned();
            let text = value.into_owned().into();
            return Some(Err(Damage { problem, form: Form::Wrapped, is_behind_text: false, text }));
        }
        None => (value.into_owned(), false),
    };
    let text = value.strip_suffix('\n').unwrap_or(&value);
    let start = start_of(text)?;
    Some(match read_exact(text, start) {
        Ok((envelope, is_exact, part)) => {
            let envelope = envelope.into_owned();
            let site = part.map(|part| {
                if is_encoded { Site::Encoded { token, value, part } } else { Site::Quoted { token, value, part } }
            });
            Ok(Entry { form: Form::Wrapped, envelope, is_exact, is_behind_text: start > 0, site })
        }
        Err(damage) => Err(Damage { form: Form::Wrapped, ..damage.into_owned() }),
    })
}

/// Which bytes of `whole` its substring `part` is.
pub(super) fn span_of(part: &str, whole: &str) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start.saturating_add(part.len())
}

impl Entry<'_> {
    /// What to write into the line so that the personal part of this record is erased, and over which bytes of it.
    pub fn erasure(&self, id: &str) -> Option<(Range<usize>, String)> {
        let erased = erased_part(id);
        match self.site.clone()? {
            Site::Plain(part) => Some((part, erased)),
            Site::Quoted { token, mut value, part } => {
                value.replace_range(part, &erased);
                Some((token, serde_json::Value::String(value).to_string()))
            }
            Site::Encoded { token, mut value, part } => {
                value.replace_range(part, &erased);
                Some((token, format!("\"{}\"", STANDARD.encode(value))))
            }
        }
    }
}

/// What stands for a personal part that the erasure `id` took out, in canonical form.
pub fn erased_part(id: &str) -> String {
    serde_json::json!({ "erased": id }).to_string()
}

impl Envelope<'_> {
    /// What is sealed, as its members.
    ///
    /// # Errors
    /// When it is no record.
    pub fn record(&self) -> Result<Record<'_>, serde_json::Error> {
        serde_json::from_str(&self.record)
    }

    /// The personal part, as its members; `None` if there is none.
    ///
    /// # Errors
    /// When it is none that a record can have.
    pub fn personal(&self) -> Result<Option<PersonalPart<'_>>, serde_json::Error> {
        let Some(personal) = self.personal.as_deref() else { return Ok(None) };
        if let Some(id) = self.erased_by() {
            return Ok(Some(PersonalPart::Erased(id)));
        }
        Ok(Some(PersonalPart::Kept(serde_json::from_str(personal)?)))
    }

    /// The id of the erasure that took the personal part out, if one did.
    pub fn erased_by(&self) -> Option<Cow<'_, str>> {
        let personal = self.personal.as_deref().filter(|personal| personal.starts_with(r#"{"erased":"#))?;
        serde_json::from_str::<Erased<'_>>(personal).ok().map(|part| part.erased)
    }

    /// What the record claims to be: enough to say which one was changed.
    pub fn claim(&self) -> Claim<'_> {
        serde_json::from_str(&self.record).unwrap_or_else(|_| claim_in(&self.record))
    }

    /// The record as one line.
    pub fn to_line(&self) -> String {
        seal::line(&self.mac, self.personal.as_deref(), &self.record)
    }

    fn into_owned(self) -> Envelope<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Envelope { mac: own(self.mac), personal: self.personal.map(own), record: own(self.record) }
    }
}

impl Damage<'_> {
    /// What the record claims to be, as far as it can be made out.
    pub fn claim(&self) -> Claim<'_> {
        claim_in(&self.text)
    }

    fn into_owned(self) -> Damage<'static> {
        Damage { text: Cow::Owned(self.text.into_owned()), ..self }
    }
}

/// The first thing in `text` that looks like the place of a record.
fn claim_in(text: &str) -> Claim<'_> {
    let member = r#""chain":"#;
    let chain = || {
        let (_, rest) = text.split_once(member)?;
        let end = rest.find('}')?;
        serde_json::from_str(rest.get(..=end)?).ok()
    };
    Claim { chain: chain(), id: None }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use toolgate::audit::seal::{line, personal_digest};

    use super::*;

    const RECORD: &str = r#"{"at":"2026-01-05T10:00:00.000Z","chain":{"id":"c","key":"k1","prev":"","seq":7},"id":"d1","kind":"request","reason":"allowed","started":"2026-01-05T10:00:00.000Z","v":1,"verdict":"allow"}"#;
    const PERSONAL: &str = r#"{"salt":"s","subject":"anna \"A\" ö"}"#;

    fn exact() -> String {
        line("M", Some(PERSONAL), RECORD)
    }

    fn only<'a>(text: &'a str) -> Entry<'a> {
        match Line::read(text.as_bytes()) {
            Line::Records(mut entries) if entries.len() == 1 => entries.pop().unwrap(),
            Line::Records(_) | Line::NoRecord | Line::Damaged(_) | Line::Other => panic!("not one record: {text}"),
        }
    }

    fn assert_whole(text: &str, form: Form) {
        let entry = only(text);
        assert_eq!(entry.form, form, "{text}");
        assert!(entry.is_exact, "{text}");
        assert_eq!(entry.envelope.to_line(), exact());
        assert_eq!(entry.envelope.record().unwrap().chain.unwrap().seq, 7);
    }

    #[test]
    fn a_record_is_found_in_each_form() {
        assert_whole(&exact(), Form::Exact);
        assert_whole(&format!("[2026-01-05][info] wasm log toolgate: toolgate audit {}", exact()), Form::Prefixed);
        assert_whole(&format!("2026-01-05T10:00:00.123456789Z stdout F {}", exact()), Form::Prefixed);
        assert_whole(&json!({"a": [{"audit": exact()}], "z": 1}).to_string(), Form::Wrapped);
        assert_whole(&json!({"log": format!("toolgate audit {}\n", exact())}).to_string(), Form::Wrapped);
        let bytes = STANDARD.encode(exact());
        assert_whole(&json!({"@type": "google.protobuf.BytesValue", "value": bytes}).to_string(), Form::Wrapped);
        let parsed: Value = serde_json::from_str(&exact()).unwrap();
        assert_whole(&json!({"_source": {"toolgate": parsed}}).to_string(), Form::Rewritten);
    }

    #[test]
    fn other_order_space_escapes_and_numbers_of_a_rewritten_record_do_not_matter() {
        let record = RECORD.replace(r#""seq":7"#, r#""seq": 7.0"#).replace("allow\"", "\\u0061llow\"");
        let text = format!(r#"{{ "record": {record}, "personal": {PERSONAL}, "mac": "M" }}"#);
        assert_whole(&text, Form::Rewritten);
    }

    #[test]
    fn a_line_of_an_exporter_holds_many_records() {
        let text = json!({"records": [{"body": exact()}, {"body": exact()}, "no"]}).to_string();
        assert!(matches!(Line::read(text.as_bytes()), Line::Records(entries) if entries.len() == 2));
    }

    #[test]
    fn bytes_that_are_not_sealed_must_be_as_written() {
        let spaced = exact().replacen(r#","record""#, r#", "record""#, 1);
        assert!(!only(&spaced).is_exact);
        assert!(!only(&format!("{} ", exact())).is_exact);
        let member = exact().replacen(r#","record""#, r#","x":1,"record""#, 1);
        assert!(!only(&member).is_exact);
        assert!(!only(&json!({"audit": spaced}).to_string()).is_exact);
    }

    #[test]
    fn text_that_a_client_chose_is_no_record() {
        let text = json!({"agent": format!("Mozilla {}", exact()), "audit": exact()}).to_string();
        assert_eq!(only(&text).form, Form::Wrapped);
        for other in [format!("Mozilla {}", exact()), json!({"agent": format!("x {}", exact())}).to_string()] {
            assert!(matches!(Line::read(other.as_bytes()), Line::Other), "{other}");
        }
    }

    #[test]
    fn a_damaged_record_beside_others_is_one() {
        let cut = exact().replace(r#""v":1,"#, r#""v":1;"#);
        let text = json!({"records": [{"body": exact()}, {"body": cut}, {"body": exact()}]}).to_string();
        let reading = Reading::new(text.as_bytes());
        assert!(matches!(reading.line, Line::Records(entries) if entries.len() == 2));
        assert_eq!(reading.beside.len(), 1);
        assert_eq!(reading.beside[0].claim().chain.unwrap().seq, 7);
        assert!(!reading.beside[0].is_behind_text);
    }

    #[test]
    fn what_stands_for_no_record_in_json_is_found() {
        let body = |text: &str| json!({"body": {"stringValue": text}});
        let text = json!({"logRecords": [body("-"), body(&exact()), body("-")]}).to_string();
        let reading = Reading::new(text.as_bytes());
        assert!(matches!(reading.line, Line::Records(_)));
        assert_eq!(reading.without_record, 2);
        let text = json!({"logRecords": [body("-")]}).to_string();
        assert!(matches!(Reading::new(text.as_bytes()), Reading { line: Line::Other, without_record: 1, .. }));
        let text = json!({"audit": exact(), "agent": null}).to_string();
        let reading = Reading::new(text.as_bytes());
        assert_eq!((reading.holders, reading.empty), (vec!["audit".into()], vec![]));
        let text = json!({"audit": null, "agent": "-", "other": "--", "deep": {"x": null}}).to_string();
        let reading = Reading::new(text.as_bytes());
        assert_eq!(reading.holders, Vec::<&str>::new());
        assert_eq!(reading.empty, ["agent", "audit"]);
    }

    #[test]
    fn a_rewritten_record_has_no_other_members_and_each_once() {
        let rewritten = |record: &str, personal: &str, more: &str| {
            format!(r#"{{"_source": {{"record": {record}, "personal": {personal}, "mac": "M"{more}}}}}"#)
        };
        assert_whole(&rewritten(RECORD, PERSONAL, ""), Form::Rewritten);
        let twice = RECORD.replace(r#""seq":7"#, r#""seq":8,"seq":7"#);
        let person_twice = PERSONAL.replace(r#""subject""#, r#""subject":"bob","subject""#);
        for text in [
            rewritten(RECORD, PERSONAL, r#", "_id": null"#),
            rewritten(RECORD, PERSONAL, r#", "mac": "M""#),
            rewritten(RECORD, PERSONAL, r#", "r\u0065cord": {}"#),
            rewritten(&twice, PERSONAL, ""),
            rewritten(RECORD, &person_twice, ""),
        ] {
            let Line::Damaged(damage) = Line::read(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(damage.form, Form::Rewritten, "{text}");
            assert_eq!(damage.claim().chain.is_some(), !text.contains(&twice), "{text}");
        }
    }

    #[test]
    fn what_is_no_record_is_told_apart() {
        assert!(matches!(Line::read(b"-"), Line::NoRecord));
        for other in ["", "--", "[info] started", "{}", r#"{"a":[1,"b"]}"#, r#"{"record":1,"mac":"#] {
            assert!(matches!(Line::read(other.as_bytes()), Line::Other), "{other}");
        }
        assert!(matches!(Line::read(b"\xff"), Line::Other));
    }

    #[test]
    fn a_damaged_record_still_says_which_one_it_was() {
        let cut = exact().replace(r#""v":1,"#, r#""v":1;"#);
        let Line::Damaged(damage) = Line::read(cut.as_bytes()) else { panic!() };
        assert_eq!(damage.claim().chain.unwrap().seq, 7);
        let mut encoded = STANDARD.encode(exact());
        encoded.replace_range(60..61, "!");
        assert!(matches!(Line::read(json!([encoded]).to_string().as_bytes()), Line::Damaged(_)));
        let mut bytes = exact().into_bytes();
        let last = bytes.len() - 4;
        bytes[last] = 0xff;
        let Line::Damaged(damage) = Line::read(&bytes) else { panic!() };
        assert_eq!(damage.claim().chain.unwrap().id, "c");
        assert!(damage.problem.contains("not UTF-8"));
        let unknown = exact().replace(r#""kind":"request""#, r#""kind":"requesT""#);
        let entry = only(&unknown);
        assert!(entry.envelope.record().is_err());
        assert_eq!(entry.envelope.claim().id.unwrap(), "d1");
    }

    #[test]
    fn erasing_changes_only_the_personal_part() {
        let erased = line("M", Some(r#"{"erased":"e1"}"#), RECORD);
        let parsed: Value = serde_json::from_str(&exact()).unwrap();
        for (before, after) in [
            (exact(), erased.clone()),
            (format!("toolgate audit {}", exact()), format!("toolgate audit {erased}")),
            (
                format!(r#"{{ "a":"ö", "audit": {} }}"#, json!(exact())),
                format!(r#"{{ "a":"ö", "audit": {} }}"#, json!(erased)),
            ),
            (
                format!(r#"{{ "a": "{}", "y":  2}}"#, STANDARD.encode(exact())),
                format!(r#"{{ "a": "{}", "y":  2}}"#, STANDARD.encode(&erased)),
            ),
            (
                format!(r#"{{"x":{},"y":  2}}"#, parsed.to_string().replace(':', ": ")),
                format!(
                    r#"{{"x":{},"y":  2}}"#,
                    parsed.to_string().replace(':', ": ").replace(&PERSONAL.replace(':', ": "), r#"{"erased":"e1"}"#)
                ),
            ),
        ] {
            let (span, text) = only(&before).erasure("e1").unwrap();
            let mut line = before.clone();
            line.replace_range(span, &text);
            assert_eq!(line, after);
            assert_eq!(only(&line).envelope.erased_by().unwrap(), "e1");
        }
    }

    #[test]
    fn an_erased_part_is_nothing_but_that() {
        let envelope = |personal: &str| Envelope {
            mac: "M".into(),
            personal: Some(personal.to_owned().into()),
            record: RECORD.into(),
        };
        assert!(matches!(envelope(&erased_part("e")).personal(), Ok(Some(PersonalPart::Erased(id))) if id == "e"));
        assert!(envelope(r#"{"erased":"e","subject":"anna"}"#).personal().is_err());
        let kept = envelope(PERSONAL);
        let Ok(Some(PersonalPart::Kept(personal))) = kept.personal() else { panic!() };
        assert_eq!(personal.subject.as_deref(), Some("anna \"A\" ö"));
        assert_eq!(personal_digest(PERSONAL.as_bytes()).len(), 43);
    }
}
