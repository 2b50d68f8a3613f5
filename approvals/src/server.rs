//! The HTTP server: all routes, what is counted of them, and how it stops.

use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, StatusCode};
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::approver_api;
use crate::config::{Config, ConfigError};
use crate::connections;
use crate::gateway_api;
use crate::metrics;
use crate::page::{self, Web};
use crate::problem::Problem;
use crate::service::Approvals;

/// How long the database has to answer that it is there.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long requests that are under way have when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// All routes of the service.
///
/// # Errors
/// When a secret is missing.
pub fn router(approvals: &Approvals, config: &Config) -> Result<Router, ConfigError> {
    let operations = Router::new()
        .route("/.well-known/jwks.json", get(key_set))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(approvals.clone());
    let people = match Web::from_config(approvals, config)? {
        Some(web) => page::router(web.clone()).merge(approver_api::router(web)),
        None => Router::new(),
    };
    Ok(operations
        .merge(gateway_api::router(approvals.clone(), config)?.layer(middleware::from_fn(connections::of_gateways)))
        .merge(people)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(approvals.clone(), count)))
}

/// Serves until `stop`, then lets what is under way end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    approvals: &Approvals,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let mut background = approvals.spawn();
    let stopper = approvals.clone();
    tokio::spawn(async move {
        stop.await;
        info!("stopping");
        // Whatever waits is answered now, so that connections can end.
        stopper.stop();
    });
    let mut stopping = approvals.stopping();
    let too_late = async move {
        // It fails only when there is nothing to stop.
        let _ = stopping.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        () = connections::serve(listener, router, approvals.stopping()) => {}
        () = too_late => warn!("requests were still under way"),
    }
    while background.join_next().await.is_some() {}
    approvals.store().close().await;
}

async fn key_set(State(approvals): State<Approvals>) -> Response {
    let headers = [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, approvals.key_set().to_owned()).into_response()
}

async fn ready(State(approvals): State<Approvals>) -> Response {
    match tokio::time::timeout(READY_TIMEOUT, approvals.ready()).await {
        Ok(Ok(())) if !*approvals.stopping().borrow() => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

async fn metrics(State(approvals): State<Approvals>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], approvals.metrics_text().await).into_response()
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here.")
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This method does nothing here.")
}

/// Counts and logs requests by route: paths can hold ids, and queries more.
async fn count(State(approvals): State<Approvals>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        _ => "other",
    };
    let response = next.run(request).await;
    let route = format!("{method} {}", route.as_ref().map_or("other", MatchedPath::as_str));
    let status = response.status().as_u16();
    approvals.metrics().request(&route, status);
    tracing::debug!(route, status, "request");
    response
}
