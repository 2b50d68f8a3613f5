//! What is counted, in the text format of Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::EventKind;

/// `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Counters<const LABELS: usize> = Family<[(&'static str, String); LABELS], Counter<u64, AtomicU64>>;

/// What came of sending a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Delivery {
    /// It was taken.
    Sent,
    /// It will be tried again.
    Failed,
    /// It is a dead letter.
    Dead,
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Counters<1>,
    asked: Counters<1>,
    consumptions: Counters<1>,
    deliveries: Counters<1>,
    requests: Counters<2>,
    backlog: Family<[(&'static str, String); 1], Gauge>,
    pending: Gauge,
    waiting: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("toolgate_approvals");
        let (events, asked, consumptions) = (Counters::default(), Counters::default(), Counters::default());
        let (deliveries, requests, backlog) = (Counters::default(), Counters::default(), Family::default());
        let (pending, waiting) = (Gauge::default(), Gauge::default());
        registry.register("events", "What has happened to approvals through this process", events.clone());
        registry.register("asked", "Requests for an approval, by outcome", asked.clone());
        registry.register("consumptions", "Requests to let a call through, by outcome", consumptions.clone());
        registry.register("deliveries", "Tries to send a message, by outcome", deliveries.clone());
        registry.register("requests", "Requests, by route and status", requests.clone());
        registry.register("backlog", "Messages that wait, and dead letters", backlog.clone());
        registry.register("pending", "Approvals that wait for people", pending.clone());
        registry.register("waiting", "Requests that wait for a decision", waiting.clone());
        Self { registry, events, asked, consumptions, deliveries, requests, backlog, pending, waiting }
    }
}

impl Metrics {
    pub(crate) fn event(&self, event: EventKind) {
        self.events.get_or_create(&[("event", event.as_str().to_owned())]).inc();
    }

    pub(crate) fn asked(&self, outcome: &str) {
        self.asked.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    pub(crate) fn consumption(&self, outcome: &str) {
        self.consumptions.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    pub(crate) fn delivered(&self, delivery: Delivery) {
        let outcome = match delivery {
            Delivery::Sent => "sent",
            Delivery::Failed => "failed",
            Delivery::Dead => "dead",
        };
        self.deliveries.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    /// `route` is one of those that the service has, and never a path.
    pub(crate) fn request(&self, route: &str, status: u16) {
        self.requests.get_or_create(&[("route", route.to_owned()), ("status", status.to_string())]).inc();
    }

    pub(crate) fn set_backlog(&self, waiting: i64, dead: i64) {
        for (state, count) in [("waiting", waiting), ("dead", dead)] {
            self.backlog.get_or_create(&[("state", state.to_owned())]).set(count);
        }
    }

    pub(crate) fn set_pending(&self, count: i64) {
        self.pending.set(count);
    }

    pub(crate) fn waiting(&self) -> &Gauge {
        &self.waiting
    }

    /// All of it as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
