//! Personal data and secrets in free text: found by their form, and masked.
//!
//! This catches what people and models write without a thought; nobody who wants to hide something in a text is stopped
//! by it. In doubt it masks too much. One pass, in time linear in the text, and without any expression engine.
//!
//! | mask | what |
//! |---|---|
//! | `[email]` | `local@domain.tld`, with letters up to U+1FFF, a quoted local part, or `%40` for the `@` |
//! | `[phone]` | see [`Numbers::is_phone`] |
//! | `[card]` | 13 to 19 digits that begin with 2 to 6 and pass the Luhn check, see [`Numbers::card`] |
//! | `[key]` | PEM, JWTs, what follows `Bearer`, tokens with a well-known prefix, and long text that looks random |

use std::ops::Range;

use super::text::Cleaned;

const EMAIL: &str = "[email]";
const PHONE: &str = "[phone]";
const CARD: &str = "[card]";
const KEY: &str = "[key]";

/// Text that is not a word and has at least so many characters may be a key.
const LEAST_KEY_BYTES: usize = 32;

/// `{"alg":""}` in base64url.
const LEAST_HEADER_BYTES: usize = 15;

/// The shortest of [`PREFIXES`] with what follows at least.
const LEAST_TOKEN_BYTES: usize = 13;

/// How tokens of well-known services begin, and how many characters follow at least.
const PREFIXES: [(&str, usize); 21] = [
    ("sk-", 16),
    ("sk_live_", 8),
    ("sk_test_", 8),
    ("rk_live_", 8),
    ("rk_test_", 8),
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 16),
    ("glpat-", 16),
    ("npm_", 16),
    ("xoxa-", 8),
    ("xoxb-", 8),
    ("xoxp-", 8),
    ("xoxr-", 8),
    ("xoxs-", 8),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 24),
];

/// The text with masks in place of what was found, cleaned and cut as by [`super::text::clean`].
///
/// What is masked is masked before the text is cut, so that no part of it is left at the end.
pub fn masked(text: &str, most_bytes: usize) -> String {
    let mut cleaned = Cleaned::new(most_bytes);
    let mut finder = Finder { text, ..Finder::default() };
    let (mut at, mut written) = (0, 0);
    // Whatever begins further on than that does not fit any more.
    while at <= most_bytes.saturating_add(written) && !cleaned.is_full() {
        match finder.look(at) {
            Step::End => break,
            Step::To(next) => at = next,
            Step::Found(span, mask) => {
                cleaned.push(text.get(written..span.start).unwrap_or_default());
                cleaned.push_whole(mask, span.len());
                (at, written) = (span.end, span.end);
            }
        }
    }
    cleaned.push(text.get(written..).unwrap_or_default());
    cleaned.finish()
}

enum Step {
    /// There is no more text.
    End,
    /// Nothing begins before that place.
    To(usize),
    /// Something to mask.
    Found(Range<usize>, &'static str),
}

/// Looks at each place of a text once. Where a search over a run of characters was in vain, it would be so from any
/// later place of that run too: it is not done again, which keeps the whole linear.
#[derive(Default)]
struct Finder<'a> {
    text: &'a str,
    no_email_before: usize,
    no_jwt_before: usize,
    no_prefix_before: usize,
    no_key_before: usize,
    no_number_before: usize,
}

impl<'a> Finder<'a> {
    fn look(&mut self, at: usize) -> Step {
        let rest = self.rest(at);
        let Some(first) = rest.chars().next() else { return Step::End };
        let next = Step::To(at.saturating_add(first.len_utf8()));
        let found = |length: usize, mask| Step::Found(at..at.saturating_add(length), mask);
        match first {
            '-' => pem(rest).map_or(next, |length| found(length, KEY)),
            '"' => quoted_email(rest).map_or(next, |length| found(length, EMAIL)),
            '+' | '(' if !self.is_inside(at) => self.number(at).unwrap_or(next),
            _ if !is_letter(first) || self.is_inside(at) => next,
            _ => match uuid(rest.as_bytes()) {
                Some(length) => Step::To(at.saturating_add(length)),
                // Nothing begins inside of a word.
                None => self.word(at).unwrap_or_else(|| {
                    let word = run(rest.as_bytes(), |byte| byte.is_ascii_alphanumeric() || byte == b'_');
                    Step::To(at.saturating_add(word.max(first.len_utf8())))
                }),
            },
        }
    }

    /// Whether a word goes on here.
    fn is_inside(&self, at: usize) -> bool {
        self.text.get(..at).and_then(|before| before.chars().next_back()).is_some_and(is_letter)
    }

    /// What may begin where a word begins.
    fn word(&mut self, at: usize) -> Option<Step> {
        if let Some(length) = self.email(at) {
            return Some(Step::Found(at..at.saturating_add(length), EMAIL));
        }
        if let Some(secret) = bearer(self.rest(at)) {
            return Some(Step::Found(at.saturating_add(secret.start)..at.saturating_add(secret.end), KEY));
        }
        match self.key(at) {
            Some(length) => Some(Step::Found(at..at.saturating_add(length), KEY)),
            None => self.number(at),
        }
    }

    fn key(&mut self, at: usize) -> Option<usize> {
        // Most words are shorter than any key.
        let start = self.rest(at).as_bytes().get(..LEAST_TOKEN_BYTES)?;
        if !start.iter().all(|&byte| is_base64(byte) || byte == b'.') {
            return None;
        }
        self.jwt(at).or_else(|| self.prefixed(at)).or_else(|| self.random(at))
    }

    fn rest(&self, at: usize) -> &'a str {
        self.text.get(at..).unwrap_or_default()
    }

    fn email(&mut self, at: usize) -> Option<usize> {
        if at < self.no_email_before {
            return None;
        }
        let rest = self.rest(at);
        let local = rest.find(|c| !is_local(c)).unwrap_or(rest.len());
        let (local, after) = rest.split_at_checked(local)?;
        let escaped = local.match_indices("%40").skip_while(|&(place, _)| place == 0);
        let domains = escaped.map(|(place, mark)| place.saturating_add(mark.len()));
        let plain = after.starts_with('@').then(|| local.len().saturating_add(1));
        let found = domains.chain(plain).find_map(|start| Some(start.saturating_add(domain(rest.get(start..)?)?)));
        if found.is_none() {
            self.no_email_before = at.saturating_add(local.len());
        }
        found
    }

    /// `header.payload.signature`, of which the header is an object in base64url; encrypted ones have five parts.
    fn jwt(&mut self, at: usize) -> Option<usize> {
        let rest = self.rest(at);
        if at < self.no_jwt_before || !rest.starts_with("eyJ") {
            return None;
        }
        let length = run(rest.as_bytes(), |byte| is_base64url(byte) || byte == b'.');
        let mut dots = rest.get(..length)?.match_indices('.');
        if let (Some((header, _)), Some(_)) = (dots.next(), dots.next())
            && header >= LEAST_HEADER_BYTES
        {
            return Some(length);
        }
        self.no_jwt_before = at.saturating_add(length);
        None
    }

    /// A token that begins as those of a well-known service do, and has a digit as they do.
    fn prefixed(&mut self, at: usize) -> Option<usize> {
        let rest = self.rest(at);
        if at < self.no_prefix_before {
            return None;
        }
        let (prefix, least) = PREFIXES.into_iter().find(|(prefix, _)| rest.starts_with(prefix))?;
        let length = run(rest.as_bytes(), is_base64url);
        let token = rest.get(prefix.len()..length)?;
        if token.len() >= least && token.bytes().any(|byte| byte.is_ascii_digit()) {
            return Some(length);
        }
        self.no_prefix_before = at.saturating_add(length);
        None
    }

    /// Text of the characters of Base64 that changes between letters and digits, and from lower to upper case, more often
    /// than words and identifiers do. UUIDs have a form of their own, and are no secrets.
    fn random(&mut self, at: usize) -> Option<usize> {
        if at < self.no_key_before {
            return None;
        }
        let rest = self.rest(at).as_bytes();
        let (mut length, mut digit_changes, mut rises) = (0_usize, 0_usize, 0_usize);
        let mut last = b'-';
        while let Some(&byte) = rest.get(length).filter(|&&byte| is_base64(byte)) {
            if !last.is_ascii_alphanumeric() && uuid(rest.get(length..)?).is_some() {
                break;
            }
            let is_word = byte.is_ascii_alphanumeric() && last.is_ascii_alphanumeric();
            digit_changes =
                digit_changes.saturating_add((is_word && byte.is_ascii_digit() != last.is_ascii_digit()).into());
            rises = rises.saturating_add((last.is_ascii_lowercase() && byte.is_ascii_uppercase()).into());
            last = byte;
            length = length.saturating_add(1);
        }
        length = length.saturating_add(run(rest.get(length..)?, |byte| byte == b'='));
        let changes = digit_changes.saturating_add(rises);
        // Words of an identifier have about five letters, and few have digits.
        let is_random =
            changes.saturating_mul(4) >= length || digit_changes >= 3 && changes.saturating_mul(6) >= length;
        if length >= LEAST_KEY_BYTES && digit_changes > 0 && is_random {
            return Some(length);
        }
        self.no_key_before = at.saturating_add(length);
        None
    }

    fn number(&mut self, at: usize) -> Option<Step> {
        if at < self.no_number_before {
            return None;
        }
        let numbers = Numbers::read(self.text, at)?;
        if let Some(span) = numbers.card() {
            return Some(Step::Found(span, CARD));
        }
        if let Some(end) = numbers.date() {
            return Some(Step::To(end));
        }
        if numbers.is_phone() {
            return Some(Step::Found(at..numbers.end(), PHONE));
        }
        self.no_number_before = numbers.end();
        None
    }
}

/// Groups of digits with what stands between the parts of a telephone or card number.
struct Numbers<'a> {
    text: &'a str,
    start: usize,
    groups: Vec<Range<usize>>,
}

impl<'a> Numbers<'a> {
    /// Longer rows of groups are read in parts.
    const MOST_GROUPS: usize = 24;
    /// As in ` / ` and `) `.
    const MOST_SEPARATORS: usize = 3;

    fn read(text: &'a str, start: usize) -> Option<Self> {
        let rest = text.get(start..)?;
        let lead = rest.bytes().take("(+".len()).take_while(|byte| matches!(byte, b'+' | b'(')).count();
        let mut at = start.saturating_add(lead);
        let mut groups = Vec::new();
        while groups.len() < Self::MOST_GROUPS {
            let rest = text.get(at..)?;
            let digits = run(rest.as_bytes(), |byte| byte.is_ascii_digit());
            if digits == 0 {
                break;
            }
            let end = at.saturating_add(digits);
            groups.push(at..end);
            let after = text.get(end..)?.char_indices();
            let Some((gap, _)) =
                after.take(Self::MOST_SEPARATORS.saturating_add(1)).find(|&(_, character)| !is_separator(character))
            else {
                break;
            };
            at = end.saturating_add(gap);
            if gap == 0 {
                break;
            }
        }
        (!groups.is_empty()).then_some(Self { text, start, groups })
    }

    fn end(&self) -> usize {
        self.groups.last().map_or(self.start, |group| group.end)
    }

    fn digits(&self, group: &Range<usize>) -> &'a str {
        self.text.get(group.clone()).unwrap_or_default()
    }

    /// What stands between two groups that follow each other.
    fn gap(&self, one: &Range<usize>, next: &Range<usize>) -> &'a str {
        self.text.get(one.end..next.start).unwrap_or_default()
    }

    fn gaps(&self) -> impl Iterator<Item = &'a str> {
        self.groups.windows(2).map(|pair| match pair {
            [one, next] => self.gap(one, next),
            _ => "",
        })
    }

    /// The first payment card number: in one group, or in groups with single blanks or dashes between them, of which the
    /// first has 4 to 6 digits and the others 3 or more.
    fn card(&self) -> Option<Range<usize>> {
        let candidates = self.groups.iter().enumerate();
        candidates.filter(|(_, first)| matches!(self.digits(first).bytes().next(), Some(b'2'..=b'6'))).find_map(
            |(index, first)| {
                let mut found = None;
                let mut count = 0_usize;
                let mut last = first;
                for group in self.groups.get(index..)? {
                    let mut gap = self.gap(last, group).chars();
                    let is_joined = gap.next().is_some_and(|c| !"./()".contains(c)) && gap.next().is_none();
                    if count > 0 && !(is_joined && group.len() >= 3 && (4..=6).contains(&first.len())) {
                        break;
                    }
                    last = group;
                    count = count.saturating_add(group.len());
                    if (13..=19).contains(&count) && passes_luhn(self.text.get(first.start..group.end)?) {
                        found = Some(first.start..group.end);
                    }
                }
                found.filter(|span| !self.is_part_of_word(span))
            },
        )
    }

    /// Whether letters, or the digits of a fraction, are next to it.
    fn is_part_of_word(&self, span: &Range<usize>) -> bool {
        let before = self.text.get(..span.start).unwrap_or_default();
        let is_fraction = before.strip_suffix('.').is_some_and(|whole| whole.ends_with(|c: char| c.is_ascii_digit()));
        let after = self.text.get(span.end..).and_then(|after| after.chars().next());
        is_fraction || before.ends_with(is_letter) || after.is_some_and(is_letter)
    }

    /// Where the groups go on after a date that they begin with: `2026-11-02`, `02.11.2026`, `11/02/2026`.
    fn date(&self) -> Option<usize> {
        let [one, two, three, ..] = self.groups.as_slice() else { return None };
        let is_mark = matches!(self.gap(one, two), "-" | "." | "/") && self.gap(one, two) == self.gap(two, three);
        let is_year = |text: &str| text.len() == 4 && (text.starts_with("19") || text.starts_with("20"));
        let is_day = |text: &str| text.len() <= 2 && text.parse::<u8>().is_ok_and(|day| (1..=31).contains(&day));
        let [one, two, last] = [one, two, three].map(|group| self.digits(group));
        let is_date = is_day(two) && ((is_year(one) && is_day(last)) || (is_day(one) && is_year(last)));
        (is_mark && is_date).then_some(three.end)
    }

    /// Whether this is how people write a telephone number:
    ///
    /// - `+`, or `tel:` before it, and at least 8 digits;
    /// - `00` and a country: 11 to 17 digits in all;
    /// - 10 to 15 digits in several groups, unless they are a number with thousands or a fraction, an IPv4 address, an
    ///   ISBN, or part of a longer identifier;
    /// - more digits in several groups if they begin with `0` or `(`: then they are several numbers.
    ///
    /// Digits without any separator stay otherwise: most of them are identifiers.
    fn is_phone(&self) -> bool {
        let count = self.groups.iter().map(ExactSizeIterator::len).fold(0, usize::saturating_add);
        let first = self.groups.first().map_or("", |first| self.digits(first));
        let before = self.text.get(..self.start).unwrap_or_default();
        let lead = self.text.get(self.start..).unwrap_or_default();
        if before.ends_with("tel:") || (lead.trim_start_matches('(').starts_with('+') && !first.starts_with('0')) {
            return count >= 8;
        }
        let is_foreign = first.starts_with("00") && !first.starts_with("000") && (11..=17).contains(&count);
        let is_home = self.groups.len() > 1
            && count >= 10
            && (count <= 15 || first.starts_with('0') || lead.starts_with('('))
            && !(count == 13 && (first == "978" || first == "979"))
            && !self.is_grouped_number(first)
            && !self.is_address();
        (is_foreign || is_home) && !self.is_part_of_identifier()
    }

    /// `1.234.567.890`, `1 234 567 890` or `1234567.8901`.
    fn is_grouped_number(&self, first: &str) -> bool {
        if self.groups.len() == 2 && self.gaps().all(|gap| gap == ".") {
            return true;
        }
        let mut gaps = self.gaps();
        let mark = gaps.next();
        first.len() <= 3
            && !first.starts_with('0')
            && self.groups.iter().skip(1).all(|group| group.len() == 3)
            && matches!(mark, Some("." | " " | "\u{a0}" | "\u{202f}" | "\u{2009}"))
            && gaps.all(|gap| Some(gap) == mark)
    }

    /// An IPv4 address.
    fn is_address(&self) -> bool {
        self.groups.len() == 4
            && self.gaps().all(|gap| gap == ".")
            && self.groups.iter().all(|group| self.digits(group).parse::<u8>().is_ok())
    }

    /// Whether it is joined with letters or further digits, as in `ab-123-4567-890` and `/orders/123-4567-890/`.
    fn is_part_of_identifier(&self) -> bool {
        let before = self.text.get(..self.start).unwrap_or_default();
        let after = self.text.get(self.end()..).unwrap_or_default();
        let joined_before = before.strip_suffix(['-', '.', '/']).is_some_and(|before| before.ends_with(is_letter));
        let joined_after = after.strip_prefix(['-', '/']).is_some_and(|after| after.starts_with(is_letter));
        joined_before || joined_after || before.ends_with(is_letter) || after.starts_with(is_letter)
    }
}

/// The domain of an e-mail address up to its last label that can be a top-level domain.
fn domain(text: &str) -> Option<usize> {
    let mut end = None;
    let mut at = 0_usize;
    loop {
        let rest = text.get(at..)?;
        let is_in_label = |c| c == '-' || (is_letter(c) && c != '_');
        let label = rest.find(|c| !is_in_label(c)).unwrap_or(rest.len());
        let letters = rest.find(|c: char| !is_in_label(c) || c == '-' || c.is_ascii_digit()).unwrap_or(rest.len());
        if at > 0 && rest.starts_with("xn--") {
            end = Some(at.saturating_add(label));
        } else if at > 0 && letters >= 2 && !rest.get(letters..)?.starts_with(is_letter) {
            end = Some(at.saturating_add(letters));
        }
        if label == 0 || !rest.get(label..)?.starts_with('.') {
            return end;
        }
        at = at.saturating_add(label).saturating_add(1);
    }
}

/// `"any text"@domain`.
fn quoted_email(rest: &str) -> Option<usize> {
    /// Longest local part (RFC 5321 section 4.5.3.1.1).
    const MOST_LOCAL_BYTES: usize = 64;
    let inner = rest.strip_prefix('"')?;
    let close = inner.bytes().take(MOST_LOCAL_BYTES).position(|byte| byte == b'"')?;
    let domain_start = close.saturating_add("\"\"@".len());
    inner.get(close..)?.strip_prefix("\"@")?;
    Some(domain_start.saturating_add(domain(rest.get(domain_start..)?)?))
}

/// From the first line of a PEM block to the end of the last one, or of the text.
fn pem(rest: &str) -> Option<usize> {
    const DASHES: &str = "-----";
    let block = rest.strip_prefix("-----BEGIN ")?;
    let after = block.split_once("-----END ").and_then(|(_, last_line)| last_line.split_once(DASHES));
    Some(rest.len().saturating_sub(after.map_or(0, |(_, after)| after.len())))
}

/// What follows `Bearer`, unless it is an ordinary word.
fn bearer(rest: &str) -> Option<Range<usize>> {
    const SCHEME: &str = "bearer";
    rest.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME))?;
    let after = rest.get(SCHEME.len()..)?;
    let token = after.trim_start_matches([' ', ':']);
    let start = rest.len().saturating_sub(token.len());
    let length = run(token.as_bytes(), |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
    });
    let has_digit = token.get(..length)?.bytes().any(|byte| byte.is_ascii_digit());
    let is_token = start > SCHEME.len() && (length >= 20 || (length >= 8 && has_digit));
    is_token.then(|| start..start.saturating_add(length))
}

/// A UUID: of any version with dashes, of version 4 or 7 without.
fn uuid(rest: &[u8]) -> Option<usize> {
    let has_dashes = rest.get(8) == Some(&b'-');
    let length = if has_dashes { 36 } else { 32 };
    let is_whole = !rest.get(length).is_some_and(u8::is_ascii_alphanumeric);
    let mut places = rest.get(..length)?.iter().enumerate();
    let fits = places.all(|(place, byte)| match (has_dashes, place) {
        (true, 8 | 13 | 18 | 23) => *byte == b'-',
        (false, 12) => matches!(byte, b'4' | b'7'),
        (false, 16) => matches!(byte, b'8' | b'9' | b'a' | b'b' | b'A' | b'B'),
        _ => byte.is_ascii_hexdigit(),
    });
    (is_whole && fits).then_some(length)
}

/// ISO/IEC 7812-1, annex B. Bytes that are no digits are not looked at.
fn passes_luhn(text: &str) -> bool {
    let digits = text.bytes().rev().filter(u8::is_ascii_digit).map(|byte| byte.saturating_sub(b'0'));
    let sum = digits.enumerate().fold(0_u32, |sum, (place, digit)| {
        let weighted = if place % 2 == 1 { digit.saturating_mul(2) } else { digit };
        sum.saturating_add(u32::from(if weighted > 9 { weighted.saturating_sub(9) } else { weighted }))
    });
    sum.is_multiple_of(10)
}

/// How many bytes at the start are like that.
fn run(bytes: &[u8], is_like: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !is_like(*byte)).unwrap_or(bytes.len())
}

/// Letters, digits and `_`, of scripts that put blanks between words: to U+1FFF.
fn is_letter(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || ('\u{c0}'..'\u{2000}').contains(&character)
}

/// What the local part of an e-mail address may have without quotes (RFC 5322 section 3.2.3, RFC 6531), but for what
/// rather separates it from other text: `#&/?{|}`.
fn is_local(character: char) -> bool {
    is_letter(character) || ".!$%'*+-=^`~".contains(character)
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// The characters of Base64 in both alphabets, without padding.
const fn is_base64(byte: u8) -> bool {
    is_base64url(byte) || matches!(byte, b'+' | b'/')
}

/// What may stand between the digits of a telephone number; dashes and blanks of all widths.
const fn is_separator(character: char) -> bool {
    matches!(
        character,
        ' ' | '-' | '.' | '/' | '(' | ')' | '\u{a0}' | '\u{2009}' | '\u{2010}'..='\u{2013}' | '\u{202f}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text that is masked, and what becomes of it; pieces of secrets are joined here, so that no scanner takes this
    /// file for a leak.
    fn check(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(masked(text, 1000), *expected, "{text}");
        }
    }

    fn check_untouched(texts: &[&str]) {
        for text in texts {
            assert_eq!(masked(text, 1000), *text);
        }
    }

    #[test]
    fn email_addresses() {
        check(&[
            ("jo@example.com", "[email]"),
            ("mail jo.l-m+tag_1@mail.example.co.uk, now", "mail [email], now"),
            ("<jo@example.com>;o'brien@example.org.", "<[email]>;[email]."),
            ("\u{201c}jo@example.com\u{201d}", "\u{201c}[email]\u{201d}"),
            ("zoë.müller@bücher.example", "[email]"),
            ("иван@пример.рф", "[email]"),
            ("jo@xn--bcher-kva.xn--p1ai", "[email]"),
            ("mailto:jo@example.com?subject=hi", "mailto:[email]?subject=hi"),
            ("a=1&to=jo@example.com&b=2", "a=1&[email]&b=2"),
            ("jo%40example.com", "[email]"),
            ("?q=x%20jo%40example.com", "?[email]"),
            ("\"jo l\"@example.com", "[email]"),
            ("jo@example.com-", "[email]-"),
            ("jo@example.com.1", "[email].1"),
            ("jo@example.com jo@example.com", "[email] [email]"),
            ("https://jo:pw@example.com/x", "https://jo:[email]/x"),
            ("a@b@example.com", "a@[email]"),
            ("_jo@example.com", "[email]"),
        ]);
        check_untouched(&[
            "jo at example.com",
            "@jo",
            "jo@",
            "jo@localhost",
            "react@18.2.0",
            "left-pad@1.3.0-1",
            "@scope/package@2.0",
            "https://medium.example/@jo.smith",
            "a @ b.example",
            "50%40",
            "\"quoted\" @example",
            "x@y.z",
        ]);
    }

    #[test]
    fn telephone_numbers() {
        check(&[
            ("+4917012345678", "[phone]"),
            ("+49 170 1234567", "[phone]"),
            ("+49 (0)170 / 123 45 67.", "[phone]."),
            ("(+49) 170-1234567", "[phone]"),
            ("+1-202-555-0123, then", "[phone], then"),
            ("+49.1701234567", "[phone]"),
            ("+290 51234", "[phone]"),
            ("\u{202a}+49\u{a0}170\u{a0}1234567\u{202c}", "\u{fffd}[phone]\u{fffd}"),
            ("+49\u{2011}170\u{2011}1234567", "[phone]"),
            ("电话+4917012345678", "电话[phone]"),
            ("(202) 555-0123", "[phone]"),
            ("202-555-0123", "[phone]"),
            ("202.555.0123", "[phone]"),
            ("030 1234567", "[phone]"),
            ("0170/1234567", "[phone]"),
            ("01 23 45 67 89", "[phone]"),
            ("phone=030 1234567&x", "phone=[phone]&x"),
            ("00491701234567", "[phone]"),
            ("0049 170 1234567", "[phone]"),
            ("tel:03012345678", "tel:[phone]"),
            ("030 1234567 030 7654321", "[phone]"),
            ("2026-11-02 030 1234567", "2026-11-02 [phone]"),
            ("+49 170 1234567 +49 170 7654321", "[phone] [phone]"),
            ("030 1234567, 030 7654321", "[phone], [phone]"),
        ]);
        check_untouched(&[
            "01701234567",
            "1762090000000",
            "12345678901234567890",
            "555-0123",
            "2026-11-02",
            "2026-11-02 14:30",
            "2026-11-02T14:30:00Z",
            "2026-11-02 - 2026-11-05",
            "2026-11-02 10.30-11.30",
            "02.11.2026 10.30",
            "11/02/2026 11/05/2026",
            "1.234.567.890",
            "1 234 567 890",
            "52.520008, 13.404954",
            "1234567.8901234",
            "-0.1234567890123",
            "+0.123456789",
            "192.168.100.200",
            "192.168.10.200",
            "978-3-16-148410-0",
            "ab-123-4567-890",
            "/orders/123-4567-890",
            "123-4567-890-ab",
            "order302-1234567-765",
            "302-1234567-7654321",
            "1234-5678-9012-3456",
            "00000000123456",
            "1+12345678",
            "a+12345678",
            "++12345",
            "((((((((1",
        ]);
    }

    #[test]
    fn payment_cards() {
        check(&[
            ("4111111111111111", "[card]"),
            ("4111 1111 1111 1111", "[card]"),
            ("4111-1111-1111-1111", "[card]"),
            ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "[card]"),
            ("pay with 4111 1111 1111 1111 12/29 please", "pay with [card] 12/29 please"),
            ("3782 822463 10005", "[card]"),
            ("378282246310005.", "[card]."),
            ("30569309025904", "[card]"),
            ("5555555555554444, 2223003122003222", "[card], [card]"),
            ("6011000990139424", "[card]"),
            ("4222222222222", "[card]"),
            ("6304000000000000000", "[card]"),
            ("no. 12 4111 1111 1111 1111", "no. 12 [card]"),
            ("card:4111111111111111;cvc:123", "card:[card];cvc:123"),
        ]);
        check_untouched(&[
            "4111111111111112",
            "4111 1111 1111 1112",
            "411111111111",
            "1762090000006",
            "9111111111111111",
            "0.4111111111111111",
            "id_4111111111111111",
            "4111111111111111x",
            "41111111111111110000000",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        ]);
    }

    #[test]
    fn keys_and_tokens() {
        let jwt = concat!("eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl");
        let unsecured = concat!("eyJ", "hbGciOiJub25lIn0.eyJzdWIiOiIxIn0.");
        let encrypted = concat!("eyJ", "hbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn");
        let pem = concat!("-----BEGIN ", "PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----");
        for token in [
            jwt,
            unsecured,
            encrypted,
            concat!("sk", "-proj-abcDEF123456abcDEF"),
            concat!("sk_live", "_4eC39HqLyjWD"),
            concat!("gh", "p_16C7e42F292c6912E7710c838347Ae178B4a"),
            concat!("github", "_pat_11ABCDEFG0abcdefgh_ijkl"),
            concat!("xo", "xb-123456789012-abc"),
            concat!("AK", "IAIOSFODNN7EXAMPLE"),
            concat!("AI", "zaSyA-1234567890abcdefghijklmnopqrstu"),
            concat!("gl", "pat-1234567890abcdefghij"),
            "Zx8Kd0aQ2mP5tR7vB1nC3yL6wE9uJ4hG",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "5ebe2294ecd0e0f08eab7690d2a6ee69",
            "dGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIDEz/+==",
        ] {
            assert_eq!(masked(token, 1000), "[key]", "{token}");
            assert_eq!(masked(&format!("use \"{token}\" now"), 1000), "use \"[key]\" now", "{token}");
            assert_eq!(masked(&format!("key={token}&x"), 1000), "key=[key]&x", "{token}");
        }
        check(&[
            ("Authorization: Bearer abcdefg1", "Authorization: Bearer [key]"),
            ("bearer  abcdefghijklmnopqrst.", "bearer  [key]"),
            (&format!("BEARER {jwt}, x"), "BEARER [key], x"),
            (&format!("a\n{pem}\nb"), "a\u{fffd}[key]\u{fffd}b"),
            (&format!("{pem}{pem}"), "[key][key]"),
            (concat!("x -----BEGIN ", "RSA PRIVATE KEY-----\nMIIB"), "x [key]"),
        ]);
    }

    #[test]
    fn words_and_identifiers_are_no_keys() {
        check_untouched(&[
            "Bearer of bad news",
            "bearer authentication",
            "Bearer",
            "sk-learn",
            "sk-some-long-name-without-digits",
            "task-force_1234567890abcdefgh",
            "eyJust.a.name",
            concat!("Maß", "xoxb-123456789012"),
            "eyJhbGciOiJub25lIn0.x",
            "-----BEGIN",
            "550e8400-e29b-41d4-a716-446655440000",
            "contact_550e8400-e29b-41d4-a716-446655440000",
            "/a/550e8400-e29b-41d4-a716-446655440000/b/01890a5d-ac96-774b-bcce-b302099a8057/c",
            "04111111-1111-1111-1111-111111111111",
            "550e8400e29b41d4a716446655440000",
            "01890a5dac96774bbcceb302099a8057",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "507f1f77bcf86cd799439011",
            "003D000000QYVtTIAX",
            "how-to-build-a-house-in-30-days-without-tools",
            "getContactByEmailAddressAndPhoneNumberOrNull2",
            "/usr/lib/x86_64-linux-gnu/security/pam_unix/v2",
            "api/v1/contacts/12345/messages/2026-11-02/parts",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1",
            "================================================",
            "1234567890123456789012345678901234567890",
            "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
            "",
        ]);
    }

    #[test]
    fn what_is_masked_is_masked_before_the_text_is_cut() {
        let text = format!("{} jo@example.com tail", "x".repeat(10));
        for (most, expected) in [
            (100, "xxxxxxxxxx [email] tail"),
            (18, "xxxxxxxxxx [email]…[+5]"),
            (17, "xxxxxxxxxx …[+19]"),
            (11, "xxxxxxxxxx …[+19]"),
            (5, "xxxxx…[+25]"),
        ] {
            assert_eq!(masked(&text, most), expected, "{most}");
        }
        let long = format!("{}@example.com", "j".repeat(500));
        assert_eq!(masked(&format!("{long} {long} {long}"), 10), "[email] …[+1025]");
    }

    #[test]
    fn hostile_text_takes_linear_time() {
        for piece in [
            "a@",
            "a@b.",
            "%40a",
            "a%40",
            "eyJ-",
            "eyJ.",
            "((((",
            "+(",
            "1 ",
            "1-",
            "12 ",
            "\"",
            "-",
            "sk-",
            "a-1-",
            "bearer ",
            "bearer  a",
            "a",
            "1",
            "A1",
            ".",
            "-----BEGIN -----END ",
            "4111 ",
            "01 2",
            "\"@",
            "0(",
            "é@é.é",
        ] {
            let text = piece.repeat(200_000 / piece.len());
            // Whatever is quadratic in this would take minutes.
            let shown = masked(&text, usize::MAX);
            assert!(shown.len() <= text.len().saturating_mul(3), "{piece}");
        }
    }

    #[test]
    fn no_key_is_shorter_than_the_shortest() {
        assert_eq!(PREFIXES.iter().map(|(prefix, least)| prefix.len() + least).min(), Some(LEAST_TOKEN_BYTES));
        const { assert!(LEAST_HEADER_BYTES >= LEAST_TOKEN_BYTES && LEAST_KEY_BYTES >= LEAST_TOKEN_BYTES) };
    }

    #[test]
    fn random_keys_are_found() {
        let digits = |alphabet: &[u8], bytes: &[u8]| {
            bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect::<String>()
        };
        let base62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        for (alphabet, length, most_missed) in [
            (&base62[..], 32, 15),
            (base62, 64, 1),
            (b"-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", 43, 20),
            (b"0123456789abcdef", 40, 0),
            (b"0123456789abcdef", 64, 0),
            (b"234567ABCDEFGHIJKLMNOPQRSTUVWXYZ", 64, 150),
        ] {
            let is_missed = |number: &u32| {
                let seed = number.to_be_bytes();
                let (one, two) = (hmac_sha256::HMAC::mac(seed, [1]), hmac_sha256::HMAC::mac(seed, [2]));
                let key = digits(alphabet, &[one, two].concat()[..length]);
                let shown = masked(&key, 1000);
                shown.len() > 16
            };
            let missed = (0..5000).filter(is_missed).count();
            assert!(missed <= most_missed, "{missed} of 5000 in base {}", alphabet.len());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_masked_within_its_bound(text in "[a@.% 0-9+()eyJ\\-\"é\n]{0,80}", most in 0_usize..100) {
            let shown = masked(&text, most);
            let kept = shown.rsplit_once("…[+").map_or(&*shown, |(kept, _)| kept);
            prop_assert!(kept.len() <= most);
        }

        /// The parts of a text that blanks keep apart are masked as they are alone.
        #[test]
        fn a_text_that_was_masked_has_nothing_left_to_mask(text in "[ab@.]{0,12}( [a-c]{1,5}@[a-c]{1,3}\\.[a-c]{2,3}){0,3}") {
            let once = masked(&text, 1000);
            prop_assert_eq!(masked(&once, 1000), once);
        }

        #[test]
        fn every_form_of_a_card_is_found(digits in "[2-6][0-9]{14}", mark in "[ -]") {
            let check = (0..10).find(|check| passes_luhn(&format!("{digits}{check}"))).unwrap();
            let number = format!("{digits}{check}");
            let digits: Vec<char> = number.chars().collect();
            let groups: Vec<String> = digits.chunks(4).map(String::from_iter).collect();
            prop_assert_eq!(masked(&number, 100), CARD);
            prop_assert_eq!(masked(&groups.join(&mark), 100), CARD);
        }
    }
}
