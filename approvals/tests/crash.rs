//! The service is killed at random moments: nothing that was answered is lost, and nothing is let through twice.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

#[expect(dead_code, reason = "each test needs a part of it")]
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use toolgate_approvals::Approvals;
use toolgate_approvals::domain::Choice;

use support::database::{Database, Which};
use support::{Service, Setup, answer, approver, ballot, binding, nonce, request, try_answer};

/// Kills, at least.
const ROUNDS: u64 = 20;
/// Calls that the service has said it knows, at least.
const CALLS: usize = 200;
const WORKERS: u64 = 4;

/// What a worker knows of a call.
#[derive(Debug, Default)]
struct Call {
    number: u64,
    /// The service has said that it is there.
    id: Option<String>,
    /// Its vote was counted.
    approved: bool,
    /// Nonces for which there were grants.
    granted: BTreeSet<u64>,
}

/// Goes through one call as far as the service lives.
async fn work(service: &Service, approvals: &Approvals, call: &mut Call) -> Result<(), reqwest::Error> {
    let (status, state) = try_answer(service.post("/v1/approvals", &request(call.number))).await?;
    assert!(status == 200 || status == 201, "{status} {state}");
    let id = state["id"].as_str().unwrap().to_owned();
    call.id = Some(id.clone());
    let voted = approvals.vote(&approver(), &id, ballot(Choice::Approve)).await.unwrap();
    assert!(voted.is_ok(), "{voted:?}");
    call.approved = true;
    consume(service, call, &id).await
}

/// Two retries of the call race for it.
async fn consume(service: &Service, call: &mut Call, id: &str) -> Result<(), reqwest::Error> {
    let path = format!("/v1/approvals/{id}/consume");
    let attempt = |number: u64| {
        let body = json!({"binding": binding(call.number), "nonce": nonce(number), "step": 0});
        try_answer(service.post(&path, &body))
    };
    let nonces = [call.number * 10 + 1, call.number * 10 + 2];
    let (first, second) = tokio::join!(attempt(nonces[0]), attempt(nonces[1]));
    for (number, outcome) in nonces.into_iter().zip([first, second]) {
        let (status, body) = outcome?;
        if status == 200 {
            call.granted.insert(number);
        } else {
            assert_eq!((status, &body["code"]), (409, &json!("used")));
        }
    }
    Ok(())
}

async fn worker(service: &Service, approvals: &Approvals, round: u64, worker: u64) -> Vec<Call> {
    let mut calls = Vec::new();
    loop {
        let number = (round * WORKERS + worker) * 100_000 + u64::try_from(calls.len()).unwrap();
        let mut call = Call { number, ..Call::default() };
        let outcome = work(service, approvals, &mut call).await;
        calls.push(call);
        if outcome.is_err() {
            return calls;
        }
    }
}

async fn killed_at_random_moments(which: Which) {
    let Some(database) = Database::new(which) else { return };
    let setup = Setup::new(&database.url);
    let approvals = setup.open().await;
    let mut calls = Vec::new();
    let mut round = 0;
    while round < ROUNDS || calls.iter().filter(|call: &&Call| call.id.is_some()).count() < CALLS {
        round += 1;
        let service = setup.serve();
        let moment = 20 + u64::from(getrandom::u32().unwrap() % 300);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(moment)).await;
            service.signal("KILL");
        };
        let working = (0..WORKERS).map(|number| worker(&service, &approvals, round, number));
        let (worked, ()) = tokio::join!(futures_util::future::join_all(working), killing);
        calls.extend(worked.into_iter().flatten());
        let report = approvals.store().verify_history(None).await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new(), "round {round}");
    }

    let service = setup.serve();
    let mut granted = 0;
    for call in &mut calls {
        let Some(id) = call.id.clone() else { continue };
        let (status, state) =
            answer(service.get(&format!("/v1/approvals/{id}?binding={}", binding(call.number)))).await;
        assert_eq!(status, 200, "{call:?}");
        if !call.approved {
            assert_eq!(state["state"], "pending", "{call:?}");
            continue;
        }
        let was_granted = !call.granted.is_empty();
        assert!(state["state"] == "consumed" || (state["state"] == "approved" && !was_granted), "{call:?} {state}");
        // Whoever has lost an answer asks again, and one of the two gets it.
        consume(&service, call, &id).await.unwrap();
        assert!(call.granted.len() <= 1, "{call:?}");
        granted += call.granted.len();
    }
    assert!(granted > CALLS / 2, "{granted} of {}", calls.len());
    let report = approvals.store().verify_history(None).await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

#[tokio::test]
async fn killed_at_random_moments_on_sqlite() {
    killed_at_random_moments(Which::Sqlite).await;
}

#[tokio::test]
async fn killed_at_random_moments_on_postgres() {
    killed_at_random_moments(Which::Postgres).await;
}
