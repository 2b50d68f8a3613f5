use super::*;

const ISSUER: IssuerIndex = IssuerIndex(0);
const REFRESH: u64 = 300;
const MAX_STALE: u64 = 3600;

/// Two keys of RFC 8037's kind and one of RFC 7515's; `ids` chooses which `kid`s the set has.
fn keys(ids: &[&str]) -> KeySet {
    let keys: Vec<String> = ids
        .iter()
        .map(|id| {
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#)
        })
        .collect();
    KeySet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
}

fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(1_800_000_000_u64.saturating_add(seconds))
}

fn ring() -> KeyRing {
    KeyRing::new([KeySource::Fetched { refresh: Seconds::new(REFRESH), max_stale: Seconds::new(MAX_STALE) }])
}

/// A key ring that fetched key `a` at second zero.
fn filled() -> KeyRing {
    let mut ring = ring();
    ring.fetch_started(ISSUER, at(0));
    assert!(ring.install(ISSUER, keys(&["a"]), at(0)));
    ring
}

fn is_due(ring: &KeyRing, seconds: u64) -> bool {
    ring.due(at(seconds)) == [ISSUER]
}

fn has_key(ring: &KeyRing, id: &str, seconds: u64) -> bool {
    matches!(ring.lookup(ISSUER, Some(id), Algorithm::EdDsa, at(seconds)), KeyLookup::Found(_))
}

#[test]
fn keys_are_fetched_at_once_and_then_at_the_interval() {
    let mut ring = ring();
    assert_eq!(ring.lookup(ISSUER, Some("a"), Algorithm::EdDsa, at(0)), KeyLookup::NoKeys);
    assert_eq!(ring.age(ISSUER, at(0)), None);
    assert!(is_due(&ring, 0));
    ring.fetch_started(ISSUER, at(0));
    assert!(!is_due(&ring, 0) && ring.is_fetch_coming(ISSUER, at(0)));
    assert!(ring.install(ISSUER, keys(&["a"]), at(1)));
    assert!(has_key(&ring, "a", 1) && !ring.is_fetch_coming(ISSUER, at(1)));
    assert_eq!(ring.age(ISSUER, at(5)), Some(Seconds::new(4)));
    assert!(!is_due(&ring, REFRESH));
    assert!(is_due(&ring, REFRESH + 1));
}

#[test]
fn every_issuer_has_its_own_schedule() {
    let source = |refresh| KeySource::Fetched { refresh: Seconds::new(refresh), max_stale: Seconds::new(MAX_STALE) };
    let mut ring = KeyRing::new([source(100), KeySource::Inline(keys(&["a"])), source(200)]);
    let [first, inline, second] = [0, 1, 2].map(IssuerIndex::new);
    assert_eq!(ring.due(at(0)), [first, second]);
    for issuer in [first, second] {
        ring.fetch_started(issuer, at(0));
        ring.install(issuer, keys(&["b"]), at(0));
    }
    assert_eq!(ring.due(at(99)), []);
    assert_eq!(ring.due(at(100)), [first]);
    assert_eq!(ring.due(at(200)), [first, second]);
    assert_eq!((ring.generation(first), ring.generation(inline)), (1, 0));
}

#[test]
fn inline_keys_are_never_fetched_nor_stale() {
    let mut ring = KeyRing::new([KeySource::Inline(keys(&["a"]))]);
    assert_eq!(ring.due(at(u64::MAX)), []);
    assert!(has_key(&ring, "a", u64::MAX));
    assert!(!ring.want_unknown_key(ISSUER, at(0)));
    assert!(!ring.install(ISSUER, keys(&["b"]), at(0)));
    ring.fetch_started(ISSUER, at(0));
    ring.fetch_failed(ISSUER, at(0));
    assert!(has_key(&ring, "a", 0) && !has_key(&ring, "b", 0));
}

#[test]
fn issuers_that_do_not_exist_have_no_keys() {
    let mut ring = ring();
    let nobody = IssuerIndex::new(7);
    assert_eq!(ring.lookup(nobody, None, Algorithm::EdDsa, at(0)), KeyLookup::NoKeys);
    assert!(!ring.want_unknown_key(nobody, at(0)));
    assert!(!ring.install(nobody, keys(&["a"]), at(0)));
}

#[test]
fn failures_are_repeated_ever_more_slowly() {
    let mut ring = ring();
    let mut now = 0;
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        assert!(is_due(&ring, now));
        ring.fetch_started(ISSUER, at(now));
        ring.fetch_failed(ISSUER, at(now));
        assert!(!is_due(&ring, now + wait - 1), "{wait}");
        assert!(!ring.is_fetch_coming(ISSUER, at(now + wait - 1)), "{wait}");
        now += wait;
    }
    assert!(is_due(&ring, now));
    ring.fetch_started(ISSUER, at(now));
    ring.install(ISSUER, keys(&["a"]), at(now));
    ring.fetch_started(ISSUER, at(now + REFRESH));
    ring.fetch_failed(ISSUER, at(now + REFRESH));
    assert!(is_due(&ring, now + REFRESH + 1), "a success resets the wait");
}

#[test]
fn the_last_good_keys_serve_while_the_issuer_is_away() {
    let mut ring = filled();
    for minute in 5..60 {
        ring.fetch_started(ISSUER, at(minute * 60));
        ring.fetch_failed(ISSUER, at(minute * 60));
        assert!(has_key(&ring, "a", minute * 60));
    }
    assert!(has_key(&ring, "a", MAX_STALE) && ring.has_usable_keys(ISSUER, at(MAX_STALE)));
    assert_eq!(ring.lookup(ISSUER, Some("a"), Algorithm::EdDsa, at(MAX_STALE + 1)), KeyLookup::NoKeys);
    assert!(!ring.has_usable_keys(ISSUER, at(MAX_STALE + 1)));
    ring.fetch_started(ISSUER, at(MAX_STALE + 1));
    assert!(!ring.install(ISSUER, keys(&["a"]), at(MAX_STALE + 1)), "the same keys");
    assert!(has_key(&ring, "a", MAX_STALE + 1));
}

#[test]
fn a_set_without_usable_keys_is_a_failure() {
    let mut ring = filled();
    ring.fetch_started(ISSUER, at(REFRESH));
    assert!(!ring.install(ISSUER, keys(&[]), at(REFRESH)));
    assert!(has_key(&ring, "a", REFRESH));
    assert_eq!(ring.age(ISSUER, at(REFRESH)), Some(Seconds::new(REFRESH)));
    assert!(!is_due(&ring, REFRESH) && is_due(&ring, REFRESH + 1));
}

#[test]
fn rotation_adds_and_removes_keys() {
    let mut ring = filled();
    let before = ring.generation(ISSUER);
    assert!(!ring.install(ISSUER, keys(&["a"]), at(10)));
    assert_eq!(ring.generation(ISSUER), before);
    assert!(ring.install(ISSUER, keys(&["a", "b"]), at(20)));
    assert!(has_key(&ring, "a", 20) && has_key(&ring, "b", 20));
    assert!(ring.install(ISSUER, keys(&["b"]), at(30)));
    assert!(!has_key(&ring, "a", 30) && has_key(&ring, "b", 30));
    assert_eq!(ring.generation(ISSUER), before + 2);
}

#[test]
fn an_unknown_key_causes_one_fetch_in_thirty_seconds() {
    let mut ring = filled();
    assert_eq!(ring.lookup(ISSUER, Some("b"), Algorithm::EdDsa, at(10)), KeyLookup::UnknownKey);
    assert!(!is_due(&ring, 10));
    let mut fetches = 0;
    for now in 10..100 {
        for _ in 0..3 {
            ring.want_unknown_key(ISSUER, at(now));
        }
        if is_due(&ring, now) {
            ring.fetch_started(ISSUER, at(now));
            assert!(ring.want_unknown_key(ISSUER, at(now)), "others wait for the same fetch");
            ring.install(ISSUER, keys(&["a"]), at(now));
            assert!(!ring.want_unknown_key(ISSUER, at(now)), "it is known now that there is no such key");
            fetches += 1;
        }
    }
    assert_eq!(fetches, 3);
}

#[test]
fn an_unknown_key_does_not_break_the_backoff() {
    let mut ring = filled();
    assert!(ring.want_unknown_key(ISSUER, at(10)));
    ring.fetch_started(ISSUER, at(10));
    ring.fetch_failed(ISSUER, at(15));
    assert!(!ring.want_unknown_key(ISSUER, at(15)));
    assert!(ring.want_unknown_key(ISSUER, at(16)), "the next attempt is due");
    ring.fetch_started(ISSUER, at(16));
    ring.fetch_failed(ISSUER, at(21));
    assert!(!ring.want_unknown_key(ISSUER, at(22)) && !is_due(&ring, 22));
    assert!(is_due(&ring, 23));
}

#[test]
fn an_unknown_key_does_not_wait_for_an_issuer_that_is_away() {
    let mut ring = filled();
    for failed_at in [REFRESH, REFRESH + 1] {
        ring.fetch_started(ISSUER, at(failed_at));
        ring.fetch_failed(ISSUER, at(failed_at));
    }
    assert!(!ring.want_unknown_key(ISSUER, at(REFRESH + 2)), "no fetch before the backoff of two seconds is over");
    assert!(ring.want_unknown_key(ISSUER, at(REFRESH + 3)));
}

#[test]
fn one_fetch_is_under_way_at_a_time() {
    let mut ring = ring();
    ring.fetch_started(ISSUER, at(0));
    let lost = limits::FETCH_TIMEOUT.get() * 2;
    assert!(!is_due(&ring, lost - 1) && ring.is_fetch_coming(ISSUER, at(lost - 1)));
    assert!(is_due(&ring, lost));
}

#[test]
fn a_clock_that_was_set_back_stops_nothing() {
    let mut ring = ring();
    ring.fetch_started(ISSUER, at(1000));
    assert!(is_due(&ring, 10));
    ring.fetch_failed(ISSUER, at(1000));
    assert!(is_due(&ring, 10));
    ring.install(ISSUER, keys(&["a"]), at(1000));
    assert!(has_key(&ring, "a", 10) && is_due(&ring, 10));
    ring.install(ISSUER, keys(&["a"]), at(10));
    assert!(!is_due(&ring, 10));
}

#[test]
fn short_lived_keys_are_fetched_before_they_are_too_old() {
    let mut ring = KeyRing::new([KeySource::Fetched { refresh: Seconds::new(300), max_stale: Seconds::new(60) }]);
    ring.install(ISSUER, keys(&["a"]), at(0));
    assert!(!is_due(&ring, 59) && is_due(&ring, 60) && has_key(&ring, "a", 60));
}

#[test]
fn the_key_id_and_the_algorithm_must_fit() {
    let ring = filled();
    let lookup = |id, algorithm| ring.lookup(ISSUER, id, algorithm, at(0));
    assert!(matches!(lookup(Some("a"), Algorithm::EdDsa), KeyLookup::Found(keys) if keys.len() == 1));
    assert!(matches!(lookup(None, Algorithm::EdDsa), KeyLookup::Found(keys) if keys.len() == 1));
    assert_eq!(lookup(Some("a"), Algorithm::Es256), KeyLookup::OtherAlgorithm);
    assert_eq!(lookup(Some("b"), Algorithm::EdDsa), KeyLookup::UnknownKey);
    assert_eq!(lookup(None, Algorithm::Es256), KeyLookup::UnknownKey);
    let mut two = filled();
    two.install(ISSUER, keys(&["a", "b"]), at(0));
    assert_eq!(two.lookup(ISSUER, None, Algorithm::EdDsa, at(0)), KeyLookup::Ambiguous);
    let mut same = filled();
    same.install(ISSUER, keys(&["a", "a"]), at(0));
    let found = same.lookup(ISSUER, Some("a"), Algorithm::EdDsa, at(0));
    assert!(matches!(found, KeyLookup::Found(keys) if keys.len() == 2));
}
