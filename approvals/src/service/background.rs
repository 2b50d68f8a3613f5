//! What goes on without being asked.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

use super::{Approvals, Change};
use crate::webhooks::Hook;

/// How often the database is asked what other processes have done.
const FOLLOW_EVERY: Duration = Duration::from_millis(400);
/// How often what has expired is ended, and others are asked.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often messages that wait are looked for.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// How often what has been kept long enough is deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// The pause after a failure of the database.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

impl Approvals {
    /// Starts what goes on without being asked; it ends after [`Approvals::stop`].
    pub fn spawn(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let this = self.clone();
        tasks.spawn(async move { this.until_stopped(this.follow()).await });
        let this = self.clone();
        tasks.spawn(async move { this.until_stopped(this.sweep()).await });
        // Each webhook on its own: one that is slow or gone delays no other.
        for hook in self.inner.sender.hooks() {
            let (this, hook) = (self.clone(), hook.clone());
            tasks.spawn(async move { this.until_stopped(this.send(&hook)).await });
        }
        let this = self.clone();
        tasks.spawn(async move { this.until_stopped(this.prune()).await });
        tasks
    }

    async fn until_stopped(&self, work: impl Future<Output = ()>) {
        let mut stopping = self.stopping();
        tokio::select! {
            () = work => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Tells whoever waits what has happened, through this process or another.
    async fn follow(&self) {
        let inner = &*self.inner;
        let mut last = inner.followed_from;
        loop {
            match inner.store.changed_since(last).await {
                Ok((ids, seq)) => {
                    last = seq;
                    let goes_on = !ids.is_empty();
                    for id in ids.into_iter().filter(|id| !id.is_empty()) {
                        inner.waits.wake(&id);
                        // Nobody listening is no failure.
                        let _ = inner.changes.send(Change { id });
                    }
                    if goes_on {
                        continue;
                    }
                }
                Err(error) => {
                    error!(%error, "changes cannot be read");
                    sleep(AFTER_FAILURE).await;
                }
            }
            tokio::select! {
                () = inner.kick.notified() => {}
                () = sleep(FOLLOW_EVERY) => {}
            }
        }
    }

    async fn sweep(&self) {
        let inner = &*self.inner;
        loop {
            match inner.store.sweep(inner.clock.now()).await {
                Ok(0) => sleep(SWEEP_EVERY).await,
                Ok(_) => self.written(),
                Err(error) => {
                    error!(%error, "expired approvals cannot be ended");
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn send(&self, hook: &Hook) {
        let inner = &*self.inner;
        let mut mail = inner.mail.subscribe();
        loop {
            match inner.sender.send_due(hook).await {
                Ok(0) => {
                    tokio::select! {
                        // It is closed with the service only.
                        _ = mail.changed() => {}
                        () = sleep(SEND_EVERY) => {}
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    error!(%error, "messages cannot be sent");
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn prune(&self) {
        let inner = &*self.inner;
        loop {
            if let Err(error) = inner.sender.bury_unknown().await {
                error!(%error, "messages cannot be given up");
            }
            let now = inner.clock.now();
            match inner.store.prune(now.saturating_sub(inner.retention), now).await {
                Ok(true) => {}
                Ok(false) => sleep(PRUNE_EVERY).await,
                Err(error) => {
                    error!(%error, "what is old cannot be deleted");
                    sleep(PRUNE_EVERY).await;
                }
            }
        }
    }
}
