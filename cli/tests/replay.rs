//! Replay: what really happened is found to happen again, and what would not is found too.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod recorder;

use std::collections::BTreeMap;

use toolgate_cli::judge::Judge;
use toolgate_cli::replay::Outcome;

use recorder::corpus::{FILES, Theme};
use recorder::gateway::{Gateway, Keys, token_with};

/// Every case of the decision corpus, replayed by the policy that decided it.
#[test]
fn what_a_policy_decided_it_decides_again() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, text) in FILES {
        let theme = Theme::parse(text);
        let mut gateway = Gateway::new(theme.policy.clone(), Keys::Inline);
        gateway.peer.address = Some(std::net::Ipv4Addr::LOCALHOST.into());
        for (number, case) in (0..).zip(&theme.cases) {
            let token = case.token.as_ref().map(token_with);
            let written = recorder::send(&mut gateway, number, &case.request(), token.as_deref());
            let judge = Judge::new(&gateway.policy);
            let outcome = Outcome::of(&judge, &written.record, written.personal.as_ref()).unwrap();
            let kind = match &outcome {
                Outcome::Same => "same",
                Outcome::CannotTell(_) => "cannot tell",
                Outcome::NotApplicable => "not applicable",
                Outcome::WouldBeDenied(_) | Outcome::WouldBeAllowed => {
                    panic!("{name}: {}: {outcome:?}\n{written:#?}", case.name)
                }
            };
            if let Outcome::CannotTell(unknown) = &outcome {
                println!("{name}: {}: {unknown:?}", case.name);
            }
            *counts.entry(kind).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts["same"] > 4 * counts["cannot tell"], "{counts:?}");
}
