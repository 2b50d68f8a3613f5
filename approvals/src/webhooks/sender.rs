//! Sends what waits, again and again with longer and longer pauses, until it is taken or given up.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::task::JoinSet;
use tracing::warn;

use super::{Announcer, Hook};
use crate::clock::Clock;
use crate::metrics::{Delivery, Metrics};
use crate::store::{Letter, Store, StoreError};

/// How long a receiver has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries before a message is a dead letter: about a day.
const MAX_ATTEMPTS: i64 = 16;
/// Seconds of the first pause; each is twice the one before.
const FIRST_PAUSE: i64 = 5;
/// Seconds of the longest pause: two hours.
const MAX_PAUSE: i64 = 7200;

/// Sends messages.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    client: Client,
    announcer: Arc<Announcer>,
    store: Store,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Sender {
    pub(crate) fn new(
        announcer: Arc<Announcer>,
        store: Store,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, reqwest::Error> {
        // A redirect could lead inside of the network, and would not carry the signature's meaning.
        let client = Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build()?;
        Ok(Self { client, announcer, store, metrics, clock })
    }

    /// Who is told.
    pub(crate) fn hooks(&self) -> &[Hook] {
        self.announcer.hooks()
    }

    /// Gives up what nobody has known the receiver of for long.
    pub(crate) async fn bury_unknown(&self) -> Result<(), StoreError> {
        let hooks: Vec<&str> = self.hooks().iter().map(Hook::name).collect();
        for _ in 0..self.store.bury_letters(&hooks, self.clock.now()).await? {
            self.metrics.delivered(Delivery::Dead);
        }
        Ok(())
    }

    /// Sends what is due for one webhook, side by side. Returns how many there were.
    pub(crate) async fn send_due(&self, hook: &Hook) -> Result<usize, StoreError> {
        let letters = self.store.claim_letters(hook.name(), self.clock.now()).await?;
        let count = letters.len();
        let mut sending = JoinSet::new();
        for letter in letters {
            let (sender, hook) = (self.clone(), hook.clone());
            sending.spawn(async move { sender.deliver(&hook, &letter).await });
        }
        while let Some(outcome) = sending.join_next().await {
            if let Ok(Err(error)) = outcome {
                warn!(%error, "a delivery could not be noted");
            }
        }
        Ok(count)
    }

    async fn deliver(&self, hook: &Hook, letter: &Letter) -> Result<(), StoreError> {
        let key = &letter.key;
        let Err(problem) = self.post(hook, letter).await else {
            self.metrics.delivered(Delivery::Sent);
            return self.store.letter_sent(key).await;
        };
        let next_at = (letter.attempts < MAX_ATTEMPTS).then(|| self.clock.now().saturating_add(pause(letter.attempts)));
        let (delivery, state) =
            if next_at.is_some() { (Delivery::Failed, "to be tried again") } else { (Delivery::Dead, "dead") };
        warn!(
            hook = hook.name,
            seq = key.seq,
            attempts = letter.attempts,
            problem,
            state,
            "a webhook did not take a message"
        );
        self.metrics.delivered(delivery);
        self.store.letter_failed(key, &problem, next_at).await
    }

    async fn post(&self, hook: &Hook, letter: &Letter) -> Result<(), String> {
        let mut request = self
            .client
            .post(hook.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("x-toolgate-delivery", letter.key.seq.to_string())
            .body(letter.body.clone());
        if let Some(signature) = hook.signature(&letter.body, self.clock.now()) {
            request = request.header("x-toolgate-signature", signature);
        }
        // The URL may be a secret: it stays out of errors.
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(status(answer.status())) }
    }
}

fn status(status: StatusCode) -> String {
    format!("answered with status {}", status.as_u16())
}

/// Seconds before the next try.
fn pause(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(2_i64.saturating_pow(doublings)).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_two_hours_and_fill_a_day() {
        assert_eq!([1, 2, 3].map(pause), [5, 10, 20]);
        assert_eq!(pause(1000), MAX_PAUSE);
        let all: i64 = (1..MAX_ATTEMPTS).map(pause).sum();
        assert!((36_000..100_000).contains(&all), "{all}");
    }
}
