use proptest::prelude::*;

use super::*;
use crate::approval::{ApprovalId, BindingDigest};
use crate::keys::{KeyProblem, NamedKey};
use crate::limits;
use crate::mcp::{Capability, ClientCapabilities, Revision};
use crate::units::{Seconds, UnixSeconds};

const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
const DAY: Seconds = Seconds::new(24 * 3600);

const ALICE: Owner<'_> = Owner {
    resource: "https://gateway.test/mcp",
    issuer: "https://issuer.test",
    subject: "alice",
    client_id: Some("desktop"),
    tenant: Some("acme"),
};

fn key(id: &str, byte: u8) -> NamedKey {
    NamedKey::new(id, &[byte; 32]).unwrap()
}

fn keys(list: &[NamedKey]) -> SessionKeys {
    SessionKeys::new(list.to_vec(), DAY).unwrap()
}

fn one_key() -> SessionKeys {
    keys(&[key("k1", 1)])
}

fn session(upstream_id: &str) -> Session {
    Session {
        upstream_id: upstream_id.to_owned(),
        capabilities: ClientCapabilities::default().with(Capability::ElicitationUrl).with(Capability::Roots),
        requested: Revision::V2025_11_25,
    }
}

fn task() -> Task {
    Task { upstream_id: "tâche 1".to_owned(), tool: "send_message".to_owned() }
}

fn sealed() -> String {
    one_key().seal(&session("s-1"), &ALICE.into(), NOW).unwrap()
}

fn open(text: &str, owner: Owner<'_>) -> Result<Session, SealError> {
    one_key().open(text, &owner.into(), NOW)
}

/// Everybody who is not [`ALICE`] in one way.
fn others() -> [Owner<'static>; 9] {
    [
        Owner { resource: "https://gateway.test/other", ..ALICE },
        Owner { issuer: "https://elsewhere.test", ..ALICE },
        Owner { subject: "mallory", ..ALICE },
        Owner { client_id: Some("phone"), ..ALICE },
        Owner { client_id: None, ..ALICE },
        Owner { client_id: Some(""), ..ALICE },
        Owner { tenant: Some("globex"), ..ALICE },
        Owner { tenant: None, ..ALICE },
        Owner { client_id: ALICE.tenant, tenant: ALICE.client_id, ..ALICE },
    ]
}

#[test]
fn what_was_sealed_opens_for_the_same_caller_only() {
    let text = sealed();
    assert_eq!(open(&text, ALICE), Ok(session("s-1")));
    for other in others() {
        assert_eq!(open(&text, other), Err(SealError::NotForCaller), "{other:?}");
    }
}

/// Calculated with another implementation, from the description at the top of this module.
#[test]
fn the_form_is_the_one_that_is_documented() {
    let text = "tg1.k1.AAAAAGtJ0gAKA3MtMQ.DmFc8eXBbnjjnuYy27mZQ1qJJWda6Iu45LrBgP81h_U";
    assert_eq!(sealed(), text);
}

#[test]
fn no_two_callers_have_the_same_binding() {
    let owner =
        |issuer, subject, client_id, tenant| Binding::from(Owner { issuer, subject, client_id, tenant, ..ALICE });
    // The same bytes, cut at other places.
    let all = [
        owner("ab", "c", None, None),
        owner("a", "bc", None, None),
        owner("abc", "", None, None),
        owner("ab", "c", Some(""), None),
        owner("ab", "c", None, Some("")),
        owner("ab", "", Some("c"), None),
        owner("ab", "", None, Some("c")),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(all.iter().skip(index + 1).all(|other| other != one), "{index}");
    }
}

#[test]
fn sealed_identifiers_are_visible_ascii_of_bounded_length() {
    let longest_id = "i".repeat(limits::MAX_KEY_ID_BYTES);
    let keys = keys(&[key(&longest_id, 1)]);
    let longest = "~".repeat(limits::MAX_UPSTREAM_SESSION_BYTES);
    let task = Task { upstream_id: "t".repeat(limits::MAX_URI_BYTES), tool: "n".repeat(limits::MAX_NAME_BYTES) };
    for text in
        [keys.seal(&session(&longest), &ALICE.into(), NOW).unwrap(), keys.seal_task(&task, &ALICE.into(), NOW).unwrap()]
    {
        assert!(text.len() <= limits::MAX_SEALED_BYTES, "{}", text.len());
        assert!(text.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    }
    const { assert!(limits::MAX_SEALED_BYTES <= limits::MAX_HEADER_VALUE_BYTES) };
}

#[test]
fn what_is_no_identifier_is_not_sealed() {
    let keys = one_key();
    let too_long = "x".repeat(limits::MAX_UPSTREAM_SESSION_BYTES + 1);
    for id in ["", " ", "a b", "a\t", "é", "a\r\nb", "\u{7f}", &too_long] {
        assert_eq!(keys.seal(&session(id), &ALICE.into(), NOW), Err(Unsealable::Identifier), "{id:?}");
    }
    let long = |most: usize| "x".repeat(most + 1);
    for broken in [
        Task { upstream_id: String::new(), ..task() },
        Task { upstream_id: long(limits::MAX_URI_BYTES), ..task() },
        Task { tool: String::new(), ..task() },
        Task { tool: long(limits::MAX_NAME_BYTES), ..task() },
        Task { tool: long(usize::from(u16::MAX)), ..task() },
    ] {
        assert_eq!(keys.seal_task(&broken, &ALICE.into(), NOW), Err(Unsealable::Identifier));
    }
}

#[test]
fn without_a_key_nothing_is_sealed_and_nothing_opens() {
    let none = keys(&[]);
    assert!(none.is_empty());
    assert_eq!(none.seal(&session("s-1"), &ALICE.into(), NOW), Err(Unsealable::NoKey));
    assert_eq!(none.seal_task(&task(), &ALICE.into(), NOW), Err(Unsealable::NoKey));
    assert_eq!(none.open(&sealed(), &ALICE.into(), NOW), Err(SealError::UnknownKey));
}

#[test]
fn keys_are_replaced_without_ending_sessions() {
    let (old, new) = (key("old", 1), key("new", 2));
    let before = keys(std::slice::from_ref(&old));
    let during = keys(&[new.clone(), old]);
    let after = keys(&[new]);
    let binding = ALICE.into();
    let from_before = before.seal(&session("s-1"), &binding, NOW).unwrap();
    let from_during = during.seal(&session("s-2"), &binding, NOW).unwrap();
    assert_eq!(during.open(&from_before, &binding, NOW), Ok(session("s-1")));
    assert_eq!(during.open(&from_during, &binding, NOW), Ok(session("s-2")));
    assert_eq!(after.open(&from_during, &binding, NOW), Ok(session("s-2")));
    assert_eq!(after.open(&from_before, &binding, NOW), Err(SealError::UnknownKey));
    assert_eq!(before.open(&from_during, &binding, NOW), Err(SealError::UnknownKey));
}

#[test]
fn a_key_of_the_same_name_is_not_the_same_key() {
    assert_eq!(keys(&[key("k1", 2)]).open(&sealed(), &ALICE.into(), NOW), Err(SealError::NotForCaller));
    // Nor is the same key under another name.
    let renamed = sealed().replacen("k1", "k2", 1);
    let both = keys(&[key("k1", 1), key("k2", 1)]);
    assert_eq!(both.open(&renamed, &ALICE.into(), NOW), Err(SealError::NotForCaller));
}

#[test]
fn seals_age() {
    let text = sealed();
    let at = |now| one_key().open(&text, &ALICE.into(), now);
    let last = NOW.plus(DAY);
    assert!(at(last).is_ok());
    assert_eq!(at(last.plus(Seconds::new(1))), Err(SealError::Expired));
    // Another replica's clock may be ahead, but not far.
    let early = |seconds| UnixSeconds::new(NOW.get() - seconds);
    assert!(at(early(limits::CLOCK_SKEW.get())).is_ok());
    assert_eq!(at(early(limits::CLOCK_SKEW.get() + 1)), Err(SealError::Expired));
    // To a stranger it is a stranger's, whatever its age.
    let stranger = Owner { subject: "mallory", ..ALICE }.into();
    assert_eq!(one_key().open(&text, &stranger, last.plus(DAY)), Err(SealError::NotForCaller));
}

#[test]
fn what_is_not_sealed_at_all_is_malformed() {
    let text = sealed();
    let whole: Vec<&str> = text.split('.').collect();
    let [mark, id, payload, mac] = whole.as_slice() else { panic!("{text}") };
    let long = "A".repeat(limits::MAX_SEALED_BYTES);
    for wrong in [
        String::new(),
        "s-1".to_owned(),
        "...".to_owned(),
        "tg1...".to_owned(),
        format!("{mark}.{id}.{payload}"),
        format!("{mark}.{id}.{payload}.{mac}."),
        format!("{mark}.{id}.{payload}.{mac}.x"),
        format!("{mark}.{id}.{payload}=.{mac}"),
        format!("{mark}.{id}.{payload}.{mac}="),
        format!("TG1.{id}.{payload}.{mac}"),
        format!("tg2.{id}.{payload}.{mac}"),
        format!("tgt1.{id}.{payload}.{mac}"),
        format!(" {text}"),
        format!("{text}\0"),
        format!("{mark}.{id}.{payload}.{}", &mac[..42]),
        format!("{mark}.{id}.{long}.{mac}"),
    ] {
        assert_eq!(open(&wrong, ALICE), Err(SealError::Malformed), "{wrong}");
    }
}

#[test]
fn what_another_version_sealed_and_this_one_cannot_read_is_malformed() {
    let binding = ALICE.into();
    let contents: [&[u8]; 7] = [b"", b"\0", b"\0\x03", b"\0\x09s", b"\xffs\x03s", b"\0\x03a b", b"\0\x03\xff"];
    for content in contents {
        let text = one_key().enclose(envelope::Kind::Session, content, &binding, NOW).unwrap();
        assert_eq!(open(&text, ALICE), Err(SealError::Malformed), "{content:?}");
    }
    let contents: [&[u8]; 6] = [b"", b"\0", b"\0\x01", b"\0\x01t", b"\0\0i", b"\xff\xffti"];
    for content in contents {
        let text = one_key().enclose(envelope::Kind::Task, content, &binding, NOW).unwrap();
        assert_eq!(one_key().open_task(&text, &binding, NOW), Err(SealError::Malformed), "{content:?}");
    }
}

#[test]
fn a_task_is_bound_like_a_session_and_is_none() {
    let keys = one_key();
    let binding: Binding = ALICE.into();
    let text = keys.seal_task(&task(), &binding, NOW).unwrap();
    assert_eq!(keys.open_task(&text, &binding, NOW), Ok(task()));
    for other in others() {
        assert_eq!(keys.open_task(&text, &other.into(), NOW), Err(SealError::NotForCaller), "{other:?}");
    }
    assert_eq!(keys.open_task(&text, &binding, NOW.plus(DAY).plus(DAY)), Err(SealError::Expired));
    // Neither opens as the other, not even with the other's mark.
    assert_eq!(keys.open(&text, &binding, NOW), Err(SealError::Malformed));
    assert_eq!(keys.open_task(&sealed(), &binding, NOW), Err(SealError::Malformed));
    let disguised = text.replacen("tgt1.", "tg1.", 1);
    assert_eq!(keys.open(&disguised, &binding, NOW), Err(SealError::NotForCaller));
    let disguised = sealed().replacen("tg1.", "tgt1.", 1);
    assert_eq!(keys.open_task(&disguised, &binding, NOW), Err(SealError::NotForCaller));
}

fn approval() -> ApprovalState {
    ApprovalState {
        service: 1,
        step: 2,
        binding: BindingDigest::new([7; 32]),
        expires_at: NOW.plus(Seconds::new(600)),
        id: ApprovalId::parse("Zm9vYmFyYmF6cXV4-_0123").unwrap(),
        upstream_state: Some("étape 1".to_owned()),
    }
}

#[test]
fn an_approval_is_bound_like_a_session_and_is_none() {
    let keys = one_key();
    let binding: Binding = ALICE.into();
    let without = ApprovalState { upstream_state: None, ..approval() };
    let empty = ApprovalState { upstream_state: Some(String::new()), ..approval() };
    for state in [approval(), without, empty] {
        let text = keys.seal_approval(&state, &binding, NOW).unwrap();
        assert!(SessionKeys::is_approval_state(&text));
        assert_eq!(keys.open_approval(&text, &binding, NOW), Ok(state));
    }
    let text = keys.seal_approval(&approval(), &binding, NOW).unwrap();
    for other in others() {
        assert_eq!(keys.open_approval(&text, &other.into(), NOW), Err(SealError::NotForCaller), "{other:?}");
    }
    // None opens as another, not even with the other's mark.
    assert_eq!(keys.open(&text, &binding, NOW), Err(SealError::Malformed));
    assert_eq!(keys.open_task(&text, &binding, NOW), Err(SealError::Malformed));
    let disguised = text.replacen("tga1.", "tgt1.", 1);
    assert_eq!(keys.open_task(&disguised, &binding, NOW), Err(SealError::NotForCaller));
    for other in [sealed(), keys.seal_task(&task(), &binding, NOW).unwrap()] {
        assert!(!SessionKeys::is_approval_state(&other));
        assert_eq!(keys.open_approval(&other, &binding, NOW), Err(SealError::Malformed));
        let (_, rest) = other.split_once('.').unwrap();
        let disguised = format!("tga1.{rest}");
        assert_eq!(keys.open_approval(&disguised, &binding, NOW), Err(SealError::NotForCaller));
    }
}

#[test]
fn an_approval_expires_by_itself_and_with_its_seal() {
    let binding: Binding = ALICE.into();
    let text = one_key().seal_approval(&approval(), &binding, NOW).unwrap();
    let at = |seconds| one_key().open_approval(&text, &binding, NOW.plus(Seconds::new(seconds)));
    assert!(at(600).is_ok());
    assert_eq!(at(601), Err(SealError::Expired));
    let long = ApprovalState { expires_at: UnixSeconds::new(u64::MAX), ..approval() };
    let text = one_key().seal_approval(&long, &binding, NOW).unwrap();
    assert!(one_key().open_approval(&text, &binding, NOW.plus(DAY)).is_ok());
    assert_eq!(one_key().open_approval(&text, &binding, NOW.plus(DAY).plus(Seconds::new(1))), Err(SealError::Expired));
}

#[test]
fn approvals_survive_the_replacement_of_a_key() {
    let (old, new) = (key("old", 1), key("new", 2));
    let binding: Binding = ALICE.into();
    let text = keys(std::slice::from_ref(&old)).seal_approval(&approval(), &binding, NOW).unwrap();
    assert_eq!(keys(&[new.clone(), old]).open_approval(&text, &binding, NOW), Ok(approval()));
    assert_eq!(keys(&[new]).open_approval(&text, &binding, NOW), Err(SealError::UnknownKey));
    assert_eq!(keys(&[]).seal_approval(&approval(), &binding, NOW), Err(Unsealable::NoKey));
}

#[test]
fn an_approval_carries_a_long_state_but_not_its_own_kind() {
    let keys = keys(&[key(&"i".repeat(limits::MAX_KEY_ID_BYTES), 1)]);
    let binding: Binding = ALICE.into();
    let carrying = |state: String| ApprovalState { upstream_state: Some(state), ..approval() };
    let longest = ApprovalState {
        id: ApprovalId::parse(&"x".repeat(limits::MAX_APPROVAL_ID_BYTES)).unwrap(),
        ..carrying("s".repeat(limits::MAX_UPSTREAM_STATE_BYTES))
    };
    let text = keys.seal_approval(&longest, &binding, NOW).unwrap();
    assert!(text.len() <= limits::MAX_APPROVAL_STATE_BYTES, "{}", text.len());
    assert!(text.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    assert_eq!(keys.open_approval(&text, &binding, NOW), Ok(longest));
    for state in [format!("x{}", "s".repeat(limits::MAX_UPSTREAM_STATE_BYTES)), "tga1.".to_owned(), text] {
        assert_eq!(keys.seal_approval(&carrying(state), &binding, NOW), Err(Unsealable::Identifier));
    }
    let too_long = format!("tga1.k1.{}.{}", "A".repeat(limits::MAX_APPROVAL_STATE_BYTES), "A".repeat(43));
    assert_eq!(keys.open_approval(&too_long, &binding, NOW), Err(SealError::Malformed));
}

#[test]
fn an_approval_of_another_form_is_malformed() {
    let binding: Binding = ALICE.into();
    let head = [&[0, 0][..], &[7; 32], &NOW.get().to_be_bytes()].concat();
    let contents: [&[u8]; 10] = [
        b"",
        b"\0",
        b"\x01i",
        b"\0\0",
        b"\x01i\x02s",
        b"\x01i\0s",
        b"\x01/\0",
        b"\x01i\x01\xff",
        b"\x02i\0",
        b"\xffi\0",
    ];
    for rest in contents {
        let content = [&head, rest].concat();
        let text = one_key().enclose(envelope::Kind::Approval, &content, &binding, NOW).unwrap();
        assert_eq!(one_key().open_approval(&text, &binding, NOW), Err(SealError::Malformed), "{rest:?}");
    }
    for length in 0..head.len() {
        let text = one_key().enclose(envelope::Kind::Approval, &head[..length], &binding, NOW).unwrap();
        assert_eq!(one_key().open_approval(&text, &binding, NOW), Err(SealError::Malformed), "{length}");
    }
}

#[test]
fn keys_have_a_least_length_and_names_of_their_own() {
    assert_eq!(NamedKey::new("k1", &[1; 31]), Err(KeyProblem::TooShort));
    assert_eq!(NamedKey::new("k1", &[1; 1025]), Err(KeyProblem::TooLong));
    for id in ["", "a b", "a.b", "é", "12345678901234567"] {
        assert_eq!(NamedKey::new(id, &[1; 32]), Err(KeyProblem::Id), "{id}");
    }
    let twice = vec![key("a", 1), key("b", 2), key("a", 3)];
    assert_eq!(SessionKeys::new(twice, DAY).unwrap_err(), (2, KeyProblem::Repeated));
}

#[test]
fn debug_output_holds_no_key() {
    let text = format!("{:?}", keys(&[NamedKey::new("k1", &[0xAB; 32]).unwrap()]));
    assert!(text.contains("k1") && !text.contains("171") && !text.to_lowercase().contains("ab, "), "{text}");
}

fn upstream_ids() -> impl Strategy<Value = String> {
    prop_oneof!["[!-~]{1,80}", "[0-9a-f]{32}"]
}

proptest! {
    #[test]
    fn everything_comes_back_as_it_went_in(id in upstream_ids(), bits in 0_u8..32, revision in 0_usize..4, age in 0_u64..=86_400) {
        let session = Session {
            upstream_id: id,
            capabilities: ClientCapabilities::from_bits(bits).unwrap(),
            requested: Revision::ALL[revision],
        };
        let text = one_key().seal(&session, &ALICE.into(), NOW).unwrap();
        prop_assert_eq!(one_key().open(&text, &ALICE.into(), NOW.plus(Seconds::new(age))), Ok(session));
    }

    /// One character changed, dropped or put in, at any place.
    #[test]
    fn no_change_opens(id in upstream_ids(), place in any::<prop::sample::Index>(), other in "[ -~]", how in 0..3) {
        let text = one_key().seal(&session(&id), &ALICE.into(), NOW).unwrap();
        let at = place.index(text.len());
        let changed = match how {
            0 => format!("{}{other}{}", &text[..at], &text[at + 1..]),
            1 => format!("{}{}", &text[..at], &text[at + 1..]),
            _ => format!("{}{other}{}", &text[..at], &text[at..]),
        };
        prop_assume!(changed != text);
        prop_assert!(open(&changed, ALICE).is_err(), "{changed}");
    }

    #[test]
    fn no_change_opens_an_approval(place in any::<prop::sample::Index>(), other in "[ -~]", how in 0..4) {
        let binding: Binding = ALICE.into();
        let text = one_key().seal_approval(&approval(), &binding, NOW).unwrap();
        let at = place.index(text.len());
        let changed = match how {
            0 => format!("{}{other}{}", &text[..at], &text[at + 1..]),
            1 => format!("{}{}", &text[..at], &text[at + 1..]),
            2 => text[..at].to_owned(),
            _ => format!("{}{other}{}", &text[..at], &text[at..]),
        };
        prop_assume!(changed != text);
        prop_assert!(one_key().open_approval(&changed, &binding, NOW).is_err(), "{}", changed);
    }

    #[test]
    fn no_part_opens(id in upstream_ids(), start in any::<prop::sample::Index>(), end in any::<prop::sample::Index>()) {
        let text = one_key().seal(&session(&id), &ALICE.into(), NOW).unwrap();
        let (start, end) = (start.index(text.len()), end.index(text.len()));
        prop_assume!(start <= end);
        prop_assert!(open(&text[start..end], ALICE).is_err());
    }

    /// Parts of two good envelopes make no third one.
    #[test]
    fn no_mixture_opens(one in upstream_ids(), two in upstream_ids(), choice in prop::collection::vec(any::<bool>(), 4)) {
        prop_assume!(one != two);
        let other_key = keys(&[key("k2", 2), key("k1", 1)]);
        let one = one_key().seal(&session(&one), &ALICE.into(), NOW).unwrap();
        let two = other_key.seal(&session(&two), &ALICE.into(), NOW).unwrap();
        let parts = one.split('.').zip(two.split('.')).zip(&choice);
        let mixed: Vec<&str> = parts.map(|((one, two), choice)| if *choice { one } else { two }).collect();
        let mixed = mixed.join(".");
        prop_assume!(mixed != one && mixed != two);
        prop_assert!(other_key.open(&mixed, &ALICE.into(), NOW).is_err());
    }

    #[test]
    fn another_key_opens_nothing(id in upstream_ids(), secret in prop::array::uniform32(any::<u8>())) {
        prop_assume!(secret != [1; 32]);
        let text = one_key().seal(&session(&id), &ALICE.into(), NOW).unwrap();
        let other = keys(&[NamedKey::new("k1", &secret).unwrap()]);
        prop_assert_eq!(other.open(&text, &ALICE.into(), NOW), Err(SealError::NotForCaller));
    }

    #[test]
    fn another_principal_opens_nothing(
        issuer in ".{0,12}",
        subject in ".{0,12}",
        client in prop::option::of(".{0,6}"),
        tenant in prop::option::of(".{0,6}"),
    ) {
        let other = Owner {
            issuer: &issuer,
            subject: &subject,
            client_id: client.as_deref(),
            tenant: tenant.as_deref(),
            ..ALICE
        };
        prop_assert_eq!(open(&sealed(), other), Err(SealError::NotForCaller));
    }

    #[test]
    fn nothing_else_opens(text in prop_oneof!["\\PC{0,60}", "tg1\\.k1\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{43}"]) {
        prop_assert!(open(&text, ALICE).is_err());
        prop_assert!(one_key().open_task(&text, &ALICE.into(), NOW).is_err());
    }
}
