//! What becomes of approvals, on both databases.
#![expect(clippy::arithmetic_side_effects, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ApprovalState, Approvals, Asked};
use crate::domain::{EventKind, Filter, Request, State, VoteRefusal};
use crate::store::{Asker, Attached, Head, Refusal};
use crate::testing::database::{Database, Which};
use crate::testing::{AT_ONCE, ISSUER, binding, gateway, no, on_both, open, person, request, yes};

on_both! {
    a_call_is_approved_and_let_through_once
    one_of_many_nonces_gets_the_grant
    a_lost_answer_can_be_asked_for_again
    a_call_goes_on_step_by_step
    attaching_follows_the_state
    an_approval_on_other_terms_is_another
    nothing_is_had_for_another_binding_or_audience
    time_ends_what_nobody_decides
    an_approval_that_is_not_used_expires
    others_are_asked_after_a_time
    a_rejection_carries_its_reason
    several_requirements_need_several_people
    two_votes_at_once_count_one_after_the_other
    a_wait_ends_with_a_decision_through_another_process
    a_stop_ends_all_waits
    people_see_what_is_theirs
    the_history_shows_what_was_changed
    what_was_forged_gets_no_grant
    what_is_old_is_deleted_and_the_chain_holds
    messages_are_kept_until_they_are_taken
    a_gateway_can_have_so_many_pending
    a_requester_can_have_so_many_pending
    people_who_read_do_not_stop_gateways
}

async fn ask(approvals: &Approvals, request: &Request) -> (ApprovalState, Attached) {
    match approvals.ask(&gateway(), request, AT_ONCE).await.unwrap() {
        Asked::State(state, attached) => (state, attached),
        Asked::TooMany => panic!("too many"),
    }
}

fn nonce(number: u32) -> String {
    format!("{number:032x}")
}

/// Asks for the call with this number, in a service of its own.
struct Bench {
    approvals: Approvals,
    audiences: Vec<String>,
    database: Database,
}

impl Bench {
    async fn new(which: Which) -> Option<Self> {
        let database = Database::new(which)?;
        Some(Self { approvals: open(&database).await, audiences: gateway().audiences, database })
    }

    fn asker<'a>(&'a self, binding: &'a str) -> Asker<'a> {
        Asker { audiences: &self.audiences, binding }
    }

    async fn ask(&self, number: u32, changes: Value) -> String {
        ask(&self.approvals, &request(number, &changes)).await.0.id
    }

    async fn approve(&self, id: &str) {
        self.approvals.vote(&person("approver", &["admin"]), id, yes()).await.unwrap().unwrap();
    }

    async fn consume(&self, number: u32, id: &str, by: u32, step: i64) -> Result<Value, Refusal> {
        let grant = self.approvals.consume(self.asker(&binding(number)), id, &nonce(by), step).await.unwrap();
        grant.map(|grant| claims(&grant))
    }

    async fn look(&self, number: u32, id: &str) -> ApprovalState {
        self.approvals.look(self.asker(&binding(number)), id, AT_ONCE).await.unwrap().unwrap()
    }

    async fn sweep(&self) {
        while self.approvals.inner.store.sweep(self.approvals.clock().now()).await.unwrap() > 0 {}
    }

    async fn assert_whole(&self) -> Head {
        let report = self.approvals.store().verify_history(None).await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        report.head
    }
}

/// Claims of a JWS, whatever its signature.
fn claims(jws: &str) -> Value {
    use base64::Engine as _;
    let payload = jws.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn a_call_is_approved_and_let_through_once(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({})).await;
    assert_eq!(bench.consume(1, &id, 1, 0).await, Err(Refusal::NotApproved));
    bench.approve(&id).await;
    let state = bench.look(1, &id).await;
    assert_eq!((state.state, state.decision), (State::Approved, None));
    let grant = bench.consume(1, &id, 1, 0).await.unwrap();
    assert_eq!(grant["status"], "approved");
    assert_eq!((&grant["nonce"], &grant["step"], &grant["binding"]), (&json!(nonce(1)), &json!(0), &json!(binding(1))));
    assert_eq!(grant["exp"].as_i64().unwrap() - grant["iat"].as_i64().unwrap(), 60);
    assert_eq!(grant["approvers"][0]["sub"], "approver");
    assert_eq!(grant["approvers"][0]["roles"], json!(["admin"]));
    assert_eq!(bench.consume(1, &id, 2, 0).await, Err(Refusal::Used));
    assert_eq!(bench.look(1, &id).await.state, State::Consumed);
    bench.assert_whole().await;
}

async fn one_of_many_nonces_gets_the_grant(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let other = open(&bench.database).await;
    let id = bench.ask(1, json!({})).await;
    bench.approve(&id).await;
    let bench = Arc::new(bench);
    let mut all = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (bench, other, id) = (Arc::clone(&bench), other.clone(), id.clone());
        all.spawn(async move {
            let approvals = if number % 2 == 0 { &bench.approvals } else { &other };
            approvals.consume(bench.asker(&binding(1)), &id, &nonce(number), 0).await.unwrap()
        });
    }
    let outcomes = all.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.into_iter().filter_map(Result::err).all(|refusal| refusal == Refusal::Used));
    bench.assert_whole().await;
}

async fn a_lost_answer_can_be_asked_for_again(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({})).await;
    bench.approve(&id).await;
    let first = bench.consume(1, &id, 1, 0).await.unwrap();
    let again = bench.consume(1, &id, 1, 0).await.unwrap();
    assert_eq!((&first["nonce"], &first["step"]), (&again["nonce"], &again["step"]));
    assert_ne!(first["jti"], again["jti"]);
    bench.approvals.clock().advance(61);
    assert_eq!(bench.consume(1, &id, 1, 0).await, Err(Refusal::Used));
}

async fn a_call_goes_on_step_by_step(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({})).await;
    bench.approve(&id).await;
    assert_eq!(bench.consume(1, &id, 1, 1).await, Err(Refusal::NotApproved));
    for step in 0..10 {
        assert!(bench.consume(1, &id, u32::try_from(step).unwrap(), step).await.is_ok(), "{step}");
        assert_eq!(bench.consume(1, &id, 99, step).await, Err(Refusal::Used));
        assert_eq!(bench.consume(1, &id, 99, step + 2).await, Err(Refusal::Used));
    }
    assert_eq!(bench.consume(1, &id, 10, 10).await, Err(Refusal::Used));

    let id = bench.ask(2, json!({})).await;
    bench.approve(&id).await;
    bench.consume(2, &id, 1, 0).await.unwrap();
    bench.approvals.clock().advance(3600);
    assert_eq!(bench.consume(2, &id, 2, 1).await, Err(Refusal::Used));
    bench.assert_whole().await;
}

async fn attaching_follows_the_state(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let call = request(1, &json!({}));
    let first = bench.ask(1, json!({})).await;
    let attached = |id: &str, state| (id.to_owned(), state, Attached::Yes);
    let again = async || {
        let (state, attached) = ask(&bench.approvals, &call).await;
        (state.id, state.state, attached)
    };
    assert_eq!(again().await, attached(&first, State::Pending));
    bench.approve(&first).await;
    assert_eq!(again().await, attached(&first, State::Approved));
    bench.consume(1, &first, 1, 0).await.unwrap();

    // Used: another one. Rejected: the same one until it would have expired.
    let (second, state, is_attached) = again().await;
    assert_eq!((second == first, state, is_attached), (false, State::Pending, Attached::No));
    bench.approvals.vote(&person("approver", &["admin"]), &second, no("never")).await.unwrap().unwrap();
    assert_eq!(again().await, attached(&second, State::Rejected));
    bench.look(1, &second).await;
    assert_eq!(again().await, attached(&second, State::Rejected));
    bench.approvals.clock().advance(600);
    let third = bench.ask(1, json!({})).await;
    assert_ne!(third, second);

    // Expired: told once, within ten minutes.
    bench.approvals.clock().advance(601);
    assert_eq!(again().await, attached(&third, State::Expired));
    let (fourth, ..) = again().await;
    assert_ne!(fourth, third);
    bench.approvals.clock().advance(600);
    bench.sweep().await;
    bench.approvals.clock().advance(601);
    let (fifth, state, _) = again().await;
    assert_eq!((fifth == fourth, state), (false, State::Pending));

    // Taken back: whoever has done it knows.
    bench.approvals.cancel(bench.asker(&binding(1)), &fifth).await.unwrap().unwrap();
    assert_ne!(again().await.0, fifth);
    bench.assert_whole().await;
}

async fn an_approval_on_other_terms_is_another(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let requirement = |role| json!({"gate": "rule", "name": "r", "approvers": [role], "count": 1});
    let requester = json!({
        "issuer": ISSUER, "subject": "asker", "client_id": "asker-client", "roles": [], "actors": ["robot"],
    });
    let terms = [
        json!({}),
        json!({"requirements": [requirement("admin"), requirement("security")]}),
        json!({"reason_required": true}),
        json!({"requester": requester}),
    ];
    let mut ids = BTreeSet::new();
    for terms in &terms {
        let (state, attached) = ask(&bench.approvals, &request(1, terms)).await;
        assert_eq!((state.state, attached), (State::Pending, Attached::No), "{terms}");
        // What was approved for less does not let it through.
        let _ = bench.approvals.vote(&person("approver", &["admin"]), &state.id, yes()).await.unwrap();
        ids.insert(state.id);
    }
    assert_eq!(ids.len(), terms.len());
    // Each of them is still found, whatever was asked for since.
    for terms in &terms {
        let (state, attached) = ask(&bench.approvals, &request(1, terms)).await;
        assert_eq!((ids.contains(&state.id), attached), (true, Attached::Yes), "{terms}");
    }
    bench.assert_whole().await;
}

async fn nothing_is_had_for_another_binding_or_audience(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({})).await;
    bench.approve(&id).await;
    let (right, wrong) = (binding(1), binding(2));
    let strangers = vec!["https://other.test/mcp".to_owned()];
    for asker in [bench.asker(&wrong), Asker { audiences: &strangers, binding: &right }] {
        assert_eq!(bench.approvals.look(asker, &id, AT_ONCE).await.unwrap(), None);
        assert_eq!(bench.approvals.cancel(asker, &id).await.unwrap(), None);
        assert_eq!(bench.approvals.consume(asker, &id, &nonce(1), 0).await.unwrap(), Err(Refusal::NotFound));
    }
    assert_eq!(bench.look(1, &id).await.state, State::Approved);
}

async fn time_ends_what_nobody_decides(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let (lazy, swept) = (bench.ask(1, json!({})).await, bench.ask(2, json!({})).await);
    bench.approvals.clock().advance(600);
    // By whoever looks, and by the sweep.
    let state = bench.look(1, &lazy).await;
    assert_eq!(state.state, State::Expired);
    let decision = claims(&state.decision.unwrap());
    assert_eq!((&decision["status"], &decision["approvers"]), (&json!("expired"), &json!([])));
    assert_eq!((decision.get("nonce"), decision.get("step"), decision.get("reason")), (None, None, None));
    bench.sweep().await;
    let approver = person("approver", &["admin"]);
    let refused = bench.approvals.vote(&approver, &swept, yes()).await.unwrap();
    assert_eq!(refused, Err(VoteRefusal::Closed(State::Expired)));
    assert_eq!(bench.consume(2, &swept, 1, 0).await, Err(Refusal::Ended(State::Expired)));
    bench.assert_whole().await;
}

async fn an_approval_that_is_not_used_expires(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({})).await;
    bench.approve(&id).await;
    bench.approvals.clock().advance(600);
    assert_eq!(bench.consume(1, &id, 1, 0).await, Err(Refusal::Ended(State::Expired)));
    assert_eq!(bench.look(1, &id).await.state, State::Expired);
}

async fn others_are_asked_after_a_time(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let escalate = json!({"after": 300, "approvers": ["oncall"]});
    let requirement = json!({"gate": "risk", "name": "bulk", "approvers": ["admin"], "count": 1, "escalate": escalate});
    let id = bench.ask(1, json!({"requirements": [requirement]})).await;
    let oncall = person("oncall-person", &["oncall"]);
    bench.sweep().await;
    assert!(!bench.look(1, &id).await.escalated);
    assert_eq!(bench.approvals.vote(&oncall, &id, yes()).await.unwrap(), Err(VoteRefusal::Role));
    bench.approvals.clock().advance(300);
    bench.sweep().await;
    assert!(bench.look(1, &id).await.escalated);
    let view = bench.approvals.vote(&oncall, &id, yes()).await.unwrap().unwrap();
    assert_eq!((view.state, view.escalated), (State::Approved, true));
    let grant = bench.consume(1, &id, 1, 0).await.unwrap();
    assert_eq!((&grant["escalated"], &grant["approvers"][0]["roles"]), (&json!(true), &json!(["oncall"])));
    bench.assert_whole().await;
}

async fn a_rejection_carries_its_reason(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({"reason_required": true})).await;
    let approver = person("approver", &["admin"]);
    assert_eq!(bench.approvals.vote(&approver, &id, yes()).await.unwrap(), Err(VoteRefusal::ReasonRequired));
    let view = bench.approvals.vote(&approver, &id, no(" too many\0 ")).await.unwrap().unwrap();
    assert_eq!(view.votes[0].reason.as_deref(), Some("too many\u{fffd}"));
    let decision = claims(&bench.look(1, &id).await.decision.unwrap());
    assert_eq!((&decision["status"], &decision["reason"]), (&json!("rejected"), &json!("too many\u{fffd}")));
    assert_eq!(decision["approvers"][0]["sub"], "approver");
    assert_eq!(decision["exp"].as_i64().unwrap() - decision["iat"].as_i64().unwrap(), 120);
    assert_eq!(bench.consume(1, &id, 1, 0).await, Err(Refusal::Ended(State::Rejected)));
}

async fn several_requirements_need_several_people(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let requirements = json!([
        {"gate": "rule", "name": "rules[0]", "approvers": ["admin"], "count": 2},
        {"gate": "agent", "name": "robot", "approvers": ["security"], "count": 1},
    ]);
    let id = bench.ask(1, json!({"requirements": requirements})).await;
    let vote = async |subject: &str, roles: &[&str]| {
        bench.approvals.vote(&person(subject, roles), &id, yes()).await.unwrap().map(|view| view.state)
    };
    assert_eq!(vote("one", &["admin"]).await, Ok(State::Pending));
    assert_eq!(vote("one", &["admin"]).await, Err(VoteRefusal::AlreadyVoted));
    assert_eq!(vote("asker", &["admin"]).await, Err(VoteRefusal::Requester));
    assert_eq!(vote("two", &["admin", "security"]).await, Ok(State::Approved));
    assert_eq!(vote("three", &["admin"]).await, Err(VoteRefusal::Closed(State::Approved)));
    let grant = bench.consume(1, &id, 1, 0).await.unwrap();
    assert_eq!(grant["approvers"].as_array().unwrap().len(), 2);
}

async fn two_votes_at_once_count_one_after_the_other(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let other = open(&bench.database).await;
    for number in 0..10 {
        let id = bench.ask(number, json!({})).await;
        let (approver, rejecter) = (person("one", &["admin"]), person("two", &["admin"]));
        let (first, second) =
            tokio::join!(bench.approvals.vote(&approver, &id, yes()), other.vote(&rejecter, &id, no("no")));
        let outcomes = [first.unwrap().is_ok(), second.unwrap().is_ok()];
        assert_eq!(outcomes.iter().filter(|counted| **counted).count(), 1, "{outcomes:?}");
        let expected = if outcomes[0] { State::Approved } else { State::Rejected };
        assert_eq!(bench.look(number, &id).await.state, expected);
    }
    bench.assert_whole().await;
}

async fn a_wait_ends_with_a_decision_through_another_process(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let tasks = bench.approvals.spawn();
    let other = open(&bench.database).await;
    let mut changes = bench.approvals.changes();
    let id = bench.ask(1, json!({})).await;
    let binding = binding(1);
    let waiting = bench.approvals.look(bench.asker(&binding), &id, Duration::from_secs(30));
    let deciding = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        other.vote(&person("approver", &["admin"]), &id, yes()).await.unwrap().unwrap();
        tokio::time::Instant::now()
    };
    let (state, decided_at) = tokio::join!(waiting, deciding);
    assert_eq!(state.unwrap().unwrap().state, State::Approved);
    assert!(decided_at.elapsed() < Duration::from_secs(5), "{:?}", decided_at.elapsed());
    // Created, voted, approved.
    for _ in 0..3 {
        let change = tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap();
        assert_eq!(change.id, id);
    }
    bench.approvals.stop();
    tasks.join_all().await;
}

async fn a_stop_ends_all_waits(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({})).await;
    let binding = binding(1);
    let waiting = bench.approvals.look(bench.asker(&binding), &id, Duration::from_secs(30));
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.approvals.stop();
    };
    let (state, ()) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(waiting, stopping) }).await.unwrap();
    assert_eq!(state.unwrap().unwrap().state, State::Pending);
}

async fn people_see_what_is_theirs(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({})).await;
    let requirement = json!({"gate": "rule", "name": "r", "approvers": ["other"], "count": 1});
    bench.ask(2, json!({"requirements": [requirement]})).await;
    let list = async |subject: &str, roles: &[&str], filter: &Filter| {
        let views = bench.approvals.inbox(&person(subject, roles), filter).await.unwrap();
        views.into_iter().map(|view| (view.id, view.may_decide, view.why_not)).collect::<Vec<_>>()
    };
    let all = Filter::default();
    assert_eq!(list("approver", &["admin"], &all).await, [(id.clone(), true, None)]);
    assert_eq!(list("nobody", &["guest"], &all).await, []);
    assert_eq!(list("nobody", &[], &all).await, []);
    assert_eq!(list("asker", &[], &all).await.len(), 2);
    assert!(list("asker", &["admin"], &all).await.iter().all(|(_, may, why)| !may && *why == Some("requester")));
    let by_tool = Filter { tool: Some("send_message".to_owned()), ..Filter::default() };
    assert_eq!(list("approver", &["admin"], &by_tool).await.len(), 1);
    let odd = Filter { tool: Some("a\0".to_owned()), ..Filter::default() };
    assert_eq!(list("approver", &["admin"], &odd).await, []);

    // The requester is told the status, and not who has voted.
    bench.approve(&id).await;
    let view = bench.approvals.view(&person("asker", &[]), &id).await.unwrap().unwrap();
    assert_eq!((view.state, view.votes), (State::Approved, Vec::new()));
    let history =
        async |subject: &str, roles: &[&str]| {
            bench.approvals.history(&person(subject, roles), &id).await.unwrap().map(|events| {
                events.into_iter().map(|event| (event.event, event.by.map(|by| by.sub))).collect::<Vec<_>>()
            })
        };
    let (created, approved) = ((EventKind::Created, None), (EventKind::Approved, None));
    let voted = (EventKind::Voted, Some("approver".to_owned()));
    assert_eq!(history("asker", &[]).await, Some(vec![created.clone(), approved.clone()]));
    assert_eq!(history("approver", &["admin"]).await, Some(vec![created, voted, approved]));
    assert_eq!(history("nobody", &["guest"]).await, None);
    assert_eq!(bench.approvals.view(&person("nobody", &["guest"]), &id).await.unwrap(), None);
    let refused = bench.approvals.vote(&person("nobody", &["guest"]), &id, yes()).await.unwrap();
    assert_eq!(refused, Err(VoteRefusal::NotFound));

    // Page by page.
    for number in 10..15 {
        bench.ask(number, json!({})).await;
    }
    let (mut seen, mut filter) = (BTreeSet::new(), Filter { limit: 2, ..Filter::default() });
    loop {
        let views = bench.approvals.inbox(&person("approver", &["admin"]), &filter).await.unwrap();
        let Some(last) = views.last() else { break };
        filter.before = Some(last.cursor);
        seen.extend(views.into_iter().map(|view| view.id));
    }
    assert_eq!(seen.len(), 6);
}

async fn the_history_shows_what_was_changed(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let id = bench.ask(1, json!({})).await;
    bench.approve(&id).await;
    let head = bench.assert_whole().await;
    let pool = bench.approvals.store().pool();
    // The guards refuse.
    for statement in ["UPDATE history SET at = 0", "DELETE FROM history", "DELETE FROM history WHERE seq = 1"] {
        assert!(sqlx::query(statement).execute(pool).await.is_err(), "{statement}");
    }
    // Whoever gets around them is found.
    let problems =
        async |known: Option<&Head>| bench.approvals.store().verify_history(known).await.unwrap().problem_count;
    sqlx::query("UPDATE approvals SET state = 'consumed'").execute(pool).await.unwrap();
    assert_eq!(problems(None).await, 1);
    sqlx::query("UPDATE approvals SET state = 'approved'").execute(pool).await.unwrap();
    assert_eq!(problems(Some(&head)).await, 0);
    assert_eq!(problems(Some(&Head { hash: "0".repeat(64), ..head.clone() })).await, 1);
    let guards: &[&str] = match which {
        Which::Sqlite => &["DROP TRIGGER history_is_not_changed"],
        Which::Postgres => &["DROP TRIGGER history_is_append_only ON history"],
    };
    for guard in guards {
        sqlx::query(*guard).execute(pool).await.unwrap();
    }
    let change = "UPDATE history SET entry = REPLACE(entry, '\"approver\"', '\"somebody\"')";
    sqlx::query(change).execute(pool).await.unwrap();
    // The chain breaks, and the vote is another person's.
    assert_eq!(problems(None).await, 2);
}

/// Whoever can write to the database but has no key gets no grant signed by writing.
async fn what_was_forged_gets_no_grant(which: Which) {
    let vote = "INSERT INTO votes (seq, issuer, subject, choice, roles, requirements, at, number) \
                SELECT seq, 'https://idp.test', 'carol', 'approve', '[\"admin\"]', '[0]', created_at, 1 FROM approvals";
    let forgeries: [(bool, &[&str]); 7] = [
        (false, &[vote, "UPDATE approvals SET state = 'approved'"]),
        (false, &["UPDATE approvals SET state = 'approved'"]),
        (true, &["DELETE FROM votes"]),
        (true, &["UPDATE votes SET subject = 'carol'"]),
        (true, &["UPDATE votes SET roles = '[\"other\"]'"]),
        (true, &["UPDATE approvals SET request = REPLACE(request, 'sms', 'fax')"]),
        (true, &["UPDATE approvals SET expires_at = expires_at + 1000"]),
    ];
    let Some(bench) = Bench::new(which).await else { return };
    let pool = bench.approvals.store().pool();
    for (number, (is_approved, statements)) in (0..).zip(forgeries) {
        let id = bench.ask(number, json!({})).await;
        if is_approved {
            bench.approve(&id).await;
        }
        bench.assert_whole().await;
        for statement in statements {
            sqlx::query(*statement).execute(pool).await.unwrap();
        }
        let binding = binding(number);
        let outcome = bench.approvals.consume(bench.asker(&binding), &id, &nonce(1), 0).await;
        assert!(outcome.is_err(), "{statements:?} {outcome:?}");
        assert_eq!(bench.approvals.store().verify_history(None).await.unwrap().problem_count, 1, "{statements:?}");
        sqlx::query("DELETE FROM approvals").execute(pool).await.unwrap();
    }
    // What was consumed is told by the nonce and the step.
    let id = bench.ask(100, json!({})).await;
    bench.approve(&id).await;
    bench.consume(100, &id, 1, 0).await.unwrap();
    for change in ["nonce = 'x'", "step = 3", "state = 'approved', step = 0, nonce = NULL, nonce_at = NULL"] {
        let update = format!("UPDATE approvals SET {change}");
        sqlx::query(sqlx::AssertSqlSafe(update)).execute(pool).await.unwrap();
        assert_eq!(bench.approvals.store().verify_history(None).await.unwrap().problem_count, 1, "{change}");
    }
    let binding = binding(100);
    assert!(bench.approvals.consume(bench.asker(&binding), &id, &nonce(2), 0).await.is_err());
    // A beginning that nobody has pruned is missed.
    sqlx::query("UPDATE history_head SET base_seq = 1, base_hash = (SELECT hash FROM history WHERE seq = 1)")
        .execute(pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM history WHERE seq = 1").execute(pool).await.unwrap();
    let problems = bench.approvals.store().verify_history(None).await.unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("does not say so")), "{problems:?}");
}

async fn what_is_old_is_deleted_and_the_chain_holds(which: Which) {
    const DAY: i64 = 86_400;
    let Some(bench) = Bench::new(which).await else { return };
    let old = bench.ask(1, json!({})).await;
    bench.approve(&old).await;
    bench.consume(1, &old, 1, 0).await.unwrap();
    let head = bench.assert_whole().await;
    bench.approvals.clock().advance(10 * DAY);
    let new = bench.ask(2, json!({})).await;
    let prune = async || {
        let now = bench.approvals.clock().now();
        while bench.approvals.inner.store.prune(now - 5 * DAY, now).await.unwrap() {}
    };
    prune().await;
    bench.assert_whole().await;
    let approver = person("approver", &["admin"]);
    assert_eq!(bench.approvals.view(&approver, &old).await.unwrap(), None);
    assert!(bench.approvals.view(&approver, &new).await.unwrap().is_some());
    let report = bench.approvals.store().verify_history(Some(&head)).await.unwrap();
    assert_eq!((report.base, report.entries), (head, 2));
    prune().await;
    assert_eq!(bench.approvals.store().verify_history(None).await.unwrap().entries, 2);
    bench.approvals.clock().advance(10 * DAY);
    bench.sweep().await;
    prune().await;
    bench.assert_whole().await;
}

async fn messages_are_kept_until_they_are_taken(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let store = bench.approvals.store();
    sqlx::query("INSERT INTO outbox (seq, hook, body, created_at, attempts, next_at, dead) VALUES (1, 'gone', '{}', 1, 0, 1, 0)")
        .execute(store.pool())
        .await
        .unwrap();
    let now = bench.approvals.clock().now();
    let letter = store.claim_letters("gone", now).await.unwrap().pop().unwrap();
    assert_eq!((letter.attempts, letter.problem.as_deref()), (1, None));
    // One sender has it, until its time is over.
    assert_eq!(store.claim_letters("gone", now).await.unwrap(), []);
    assert_eq!(store.claim_letters("gone", now + 60).await.unwrap().len(), 1);
    store.letter_failed(&letter.key, "no answer", Some(now + 100)).await.unwrap();
    assert_eq!(store.claim_letters("gone", now + 99).await.unwrap(), []);
    assert_eq!(store.claim_letters("gone", now + 100).await.unwrap().len(), 1);
    store.letter_failed(&letter.key, "no answer", None).await.unwrap();
    assert_eq!(store.claim_letters("gone", now + 10_000).await.unwrap(), []);
    let dead = store.dead_letters(10).await.unwrap();
    assert_eq!(dead[0].problem.as_deref(), Some("no answer"));
    assert_eq!(store.retry_dead_letters(now).await.unwrap(), 1);
    // Another process may know a webhook that this one does not, for a day.
    assert_eq!(store.claim_letters("other", now).await.unwrap(), []);
    bench.approvals.clock().advance(86_000);
    bench.approvals.inner.sender.bury_unknown().await.unwrap();
    assert_eq!(store.dead_letters(10).await.unwrap().len(), 0);
    assert_eq!(store.bury_letters(&["gone", "other"], now + 90_000).await.unwrap(), 0);
    bench.approvals.clock().advance(500);
    bench.approvals.inner.sender.bury_unknown().await.unwrap();
    assert_eq!(store.dead_letters(10).await.unwrap().len(), 1);
}

async fn a_gateway_can_have_so_many_pending(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    bench.ask(1, json!({})).await;
    let copy = "INSERT INTO approvals (seq, id, gateway, audience, binding, requester_issuer, requester_subject, requester_client, target, \
                request, state, created_at, expires_at, escalated, step, reported) \
                WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
                SELECT 1000 + i, 'copy-' || i, gateway, audience, 'copy', requester_issuer, 'copy', requester_client, target, \
                request, state, created_at, expires_at, escalated, step, reported FROM approvals, n";
    sqlx::query(copy).execute(bench.approvals.store().pool()).await.unwrap();
    let asked = bench.approvals.ask(&gateway(), &request(2, &json!({})), AT_ONCE).await.unwrap();
    assert_eq!(asked, Asked::TooMany);
    // Those that are there are still found.
    assert_eq!(ask(&bench.approvals, &request(1, &json!({}))).await.1, Attached::Yes);
}

async fn a_requester_can_have_so_many_pending(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let requester = |subject: &str, client: &str| {
        let client = (!client.is_empty()).then_some(client);
        json!({"requester": {
            "issuer": ISSUER, "subject": subject, "client_id": client, "roles": [], "actors": [],
        }})
    };
    let mut last = String::new();
    for number in 0..100 {
        last = bench.ask(number, requester("asker", "robot")).await;
    }
    let ask = async |number, changes: Value| {
        bench.approvals.ask(&gateway(), &request(number, &changes), AT_ONCE).await.unwrap()
    };
    assert_eq!(ask(100, requester("asker", "robot")).await, Asked::TooMany);
    assert!(matches!(ask(5, requester("asker", "robot")).await, Asked::State(_, Attached::Yes)));
    // Neither the person's other clients nor others are kept from asking.
    assert!(matches!(ask(101, requester("asker", "")).await, Asked::State(_, Attached::No)));
    assert!(matches!(ask(102, requester("other", "robot")).await, Asked::State(_, Attached::No)));
    // Taking back makes room after a minute, so that nobody asks and takes back in turns.
    bench.approvals.cancel(bench.asker(&binding(99)), &last).await.unwrap().unwrap();
    assert_eq!(ask(100, requester("asker", "robot")).await, Asked::TooMany);
    bench.approvals.clock().advance(61);
    assert!(matches!(ask(100, requester("asker", "robot")).await, Asked::State(_, Attached::No)));
}

async fn people_who_read_do_not_stop_gateways(which: Which) {
    let Some(bench) = Bench::new(which).await else { return };
    let store = bench.approvals.store();
    let mut held = Vec::new();
    for _ in 0..store.reads().options().get_max_connections() {
        held.push(store.reads().acquire().await.unwrap());
    }
    let (approver, all) = (person("approver", &["admin"]), Filter::default());
    assert!(bench.approvals.inbox(&approver, &all).await.is_err());
    let id = bench.ask(1, json!({})).await;
    assert_eq!(bench.look(1, &id).await.state, State::Pending);
    drop(held);
    assert_eq!(bench.approvals.inbox(&approver, &all).await.unwrap().len(), 1);
    // Nor can metrics, which anybody may read, be counted without end.
    let text = bench.approvals.metrics_text().await;
    bench.ask(2, json!({})).await;
    let pending = |text: &str| text.lines().find(|line| line.contains("approvals_pending")).map(str::to_owned);
    assert_eq!(pending(&bench.approvals.metrics_text().await), pending(&text));
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_whatever_the_database_says() {
    let Some(database) = Database::new(Which::Postgres) else { return };
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&database.url).await.unwrap();
    sqlx::query("ALTER ROLE postgres SET synchronous_commit = off").execute(&pool).await.unwrap();
    let approvals = open(&database).await;
    let setting = "SELECT current_setting('synchronous_commit')";
    let found: String = sqlx::query_scalar(setting).fetch_one(approvals.store().pool()).await.unwrap();
    assert_eq!(found, "on");
}
