//! Properties of deciding.
#![expect(clippy::arithmetic_side_effects, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::{Case, Vote, VoteRefusal, decide, entitlement, is_approved};
use crate::domain::{Ballot, Choice, Person, Request, State};
use crate::testing;

const CREATED_AT: i64 = 1000;
const EXPIRES_AT: i64 = 1600;

/// One who votes: subject, roles and time; and how.
type Act = (u8, BTreeSet<u8>, i64, bool);

fn requests() -> impl Strategy<Value = Request> {
    let roles = || prop::collection::btree_set(0_u8..5, 1..3);
    let requirement = (roles(), 1_u32..4, prop::option::of((0_u32..600, roles())));
    prop::collection::vec(requirement, 1..4).prop_map(|requirements| {
        let names = |roles: BTreeSet<u8>| roles.iter().map(|role| format!("role-{role}")).collect::<Vec<_>>();
        let requirements: Vec<_> = requirements
            .into_iter()
            .map(|(approvers, count, escalate)| {
                let mut requirement =
                    json!({"gate": "rule", "name": "r", "approvers": names(approvers), "count": count});
                if let Some((after, approvers)) = escalate {
                    requirement["escalate"] = json!({"after": after, "approvers": names(approvers)});
                }
                requirement
            })
            .collect();
        let requester = json!({
            "issuer": testing::ISSUER, "subject": "person-0", "client_id": "client", "agent": "agent",
            "roles": [], "actors": ["actor"],
        });
        testing::request(1, &json!({"requirements": requirements, "requester": requester}))
    })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act =
        (0_u8..6, prop::collection::btree_set(0_u8..5, 0..4), CREATED_AT..EXPIRES_AT + 100, prop::bool::weighted(0.9));
    prop::collection::vec(act, 0..12).prop_map(|mut acts| {
        acts.sort_by_key(|(_, _, at, _)| *at);
        acts
    })
}

fn person(subject: u8, roles: &BTreeSet<u8>) -> Person {
    let roles: Vec<String> = roles.iter().map(|role| format!("role-{role}")).collect();
    Person { roles, ..testing::person(&format!("person-{subject}"), &[]) }
}

fn case<'a>(request: &'a Request, state: State, votes: &'a [Vote]) -> Case<'a> {
    Case { request, state, created_at: CREATED_AT, expires_at: EXPIRES_AT, votes }
}

/// Lets all act; returns the votes that counted and the state at the end.
fn play(request: &Request, acts: &[Act]) -> (Vec<Vote>, State) {
    let (mut votes, mut state) = (Vec::new(), State::Pending);
    for (subject, roles, at, approves) in acts {
        let ballot = if *approves { testing::yes() } else { testing::no("no") };
        if let Ok((vote, next)) = decide(case(request, state, &votes), &person(*subject, roles), &ballot, *at) {
            votes.push(vote);
            state = next;
        }
    }
    (votes, state)
}

proptest! {
    /// Whatever happens, what is approved has enough distinct and entitled people for each requirement, and not the
    /// requester among them. The check is written another way than the code.
    #[test]
    fn nothing_is_approved_without_all_that_is_required(request in requests(), acts in acts()) {
        let (votes, state) = play(&request, &acts);
        let people: BTreeSet<_> = votes.iter().map(|vote| (&vote.issuer, &vote.subject)).collect();
        prop_assert_eq!(people.len(), votes.len(), "one vote each");
        prop_assert!(votes.iter().all(|vote| vote.subject != "person-0"));
        prop_assert!(votes.iter().all(|vote| vote.at < EXPIRES_AT));
        let rejected = votes.iter().any(|vote| vote.choice == Choice::Reject);
        let met = request.requirements.iter().all(|requirement| {
            let holders = votes.iter().filter(|vote| {
                let escalate = requirement.escalate.as_ref();
                let later = escalate.filter(|escalate| vote.at >= CREATED_AT + i64::from(escalate.after));
                vote.choice == Choice::Approve
                    && vote.entitlement.roles.iter().any(|role| {
                        requirement.approvers.contains(role) || later.is_some_and(|later| later.approvers.contains(role))
                    })
            });
            holders.count() >= usize::try_from(requirement.count).unwrap()
        });
        let expected = if rejected { State::Rejected } else if met { State::Approved } else { State::Pending };
        prop_assert_eq!(state, expected);
        prop_assert_eq!(is_approved(case(&request, state, &votes)), state == State::Approved, "counted anew");
    }

    /// A vote after the end changes nothing, whatever the end.
    #[test]
    fn nobody_votes_after_the_end(request in requests(), acts in acts(), act in 1_u8..6) {
        let (votes, _) = play(&request, &acts);
        let everything = person(act, &(0..5).collect());
        for state in State::ALL.into_iter().filter(|state| *state != State::Pending) {
            let refused = decide(case(&request, state, &votes), &everything, &testing::yes(), CREATED_AT);
            prop_assert_eq!(refused, Err(VoteRefusal::Closed(state)));
        }
        let late = decide(case(&request, State::Pending, &[]), &everything, &testing::yes(), EXPIRES_AT);
        prop_assert_eq!(late, Err(VoteRefusal::Closed(State::Expired)));
    }

    /// More roles never take a right away.
    #[test]
    fn roles_only_add(request in requests(), roles in prop::collection::btree_set(0_u8..5, 0..4), more in 0_u8..5) {
        let may = |roles: &BTreeSet<u8>| entitlement(case(&request, State::Pending, &[]), &person(1, roles), CREATED_AT).is_ok();
        let mut all = roles.clone();
        all.insert(more);
        prop_assert!(!may(&roles) || may(&all));
    }
}

#[test]
fn nobody_decides_on_their_own_calls() {
    let requester = json!({
        "issuer": testing::ISSUER, "subject": "asker", "client_id": "client", "agent": "agent",
        "roles": [], "actors": ["actor"],
    });
    let request = testing::request(1, &json!({"requester": requester}));
    let refusal = |subject: &str, issuer: &str, client_id: Option<&str>| {
        let client_id = client_id.map(str::to_owned);
        let person = Person { issuer: issuer.to_owned(), client_id, ..testing::person(subject, &["admin"]) };
        entitlement(case(&request, State::Pending, &[]), &person, CREATED_AT).err()
    };
    let page = Some("approvals");
    assert_eq!(refusal("other", testing::ISSUER, page), None);
    assert_eq!(refusal("other", testing::ISSUER, None), None);
    assert_eq!(refusal("asker", testing::ISSUER, page), Some(VoteRefusal::Requester));
    assert_eq!(refusal("asker", "https://another-idp.test", page), Some(VoteRefusal::Requester));
    for agent in ["client", "agent", "actor"] {
        assert_eq!(refusal(agent, testing::ISSUER, page), Some(VoteRefusal::RequestersAgent), "{agent}");
        assert_eq!(refusal("other", testing::ISSUER, Some(agent)), Some(VoteRefusal::RequestersAgent), "{agent}");
    }
}

#[test]
fn reasons_are_required_and_bounded() {
    let request = testing::request(1, &json!({"reason_required": true}));
    let vote = |reason: Option<&str>| {
        let ballot = Ballot { decision: Choice::Approve, reason: reason.map(str::to_owned) };
        let case = case(&request, State::Pending, &[]);
        decide(case, &testing::person("other", &["admin"]), &ballot, CREATED_AT).map(|(vote, _)| vote.reason)
    };
    for nothing in [None, Some(""), Some(" \n ")] {
        assert_eq!(vote(nothing), Err(VoteRefusal::ReasonRequired));
    }
    assert_eq!(vote(Some(&"ä".repeat(500))), Ok(Some("ä".repeat(500))));
    assert_eq!(vote(Some(&"ä".repeat(501))), Err(VoteRefusal::ReasonTooLong));
}

#[test]
fn a_role_that_is_no_longer_needed_does_not_vote() {
    let requirements = json!([
        {"gate": "rule", "name": "a", "approvers": ["admin"], "count": 1},
        {"gate": "rule", "name": "b", "approvers": ["security"], "count": 1},
    ]);
    let request = testing::request(1, &json!({"requirements": requirements}));
    let pending = case(&request, State::Pending, &[]);
    let (vote, state) = decide(pending, &testing::person("one", &["admin"]), &testing::yes(), CREATED_AT).unwrap();
    assert_eq!(state, State::Pending);
    let votes = [vote];
    let later = case(&request, State::Pending, &votes);
    let again = decide(later, &testing::person("two", &["admin"]), &testing::no("no"), CREATED_AT);
    assert_eq!(again.err(), Some(VoteRefusal::Role));
    let (_, state) = decide(later, &testing::person("two", &["security"]), &testing::yes(), CREATED_AT).unwrap();
    assert_eq!(state, State::Approved);
}
