//! Asks the approval service.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::Stop;
use super::service::Service;
use crate::host::Failure;
use crate::text::printable;

/// Approvals on one page, at most: openapi.yaml.
pub(super) const MAX_PAGE: u32 = 100;

/// One request with its answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer: a page of approvals with all that they may have.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// The service said no.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    code: String,
    detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match &*self.code {
            "not_found" => "there is no such approval, or you may not see it",
            "requester" => "you have asked for this yourself: another person has to decide",
            "requesters_agent" => "the token was issued to the client that asks: get one through another client",
            "role" => "you have none of the roles that are still needed for this",
            "already_decided" => "you have decided on this already",
            "decided" => "this has been decided",
            "expired" => "this has expired: whoever needs it has to ask again",
            "reason_required" => "this needs a reason: add --reason",
            "reason_too_long" => "the reason is too long: 500 characters at most",
            _ => {
                return write!(
                    formatter,
                    "the service refuses: {} ({})",
                    printable(&self.detail),
                    printable(&self.code)
                );
            }
        };
        formatter.write_str(text)
    }
}

/// RFC 9457.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

/// Reads what the service says.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| {
        let problem = printable(&error.to_string()).into_owned();
        Failure::Other(format!("the answer is not that of an approval service ({problem}): check --url"))
    })
}

/// Asks one service.
#[derive(Debug)]
pub(super) struct Client {
    service: Service,
    agent: Agent,
}

impl Client {
    pub(super) fn new(service: Service) -> Result<Self, Failure> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("toolgate/", env!("CARGO_PKG_VERSION")));
        if service.is_plain {
            // What is for this machine goes to no proxy.
            config = config.proxy(None);
        } else {
            config = config.https_only(true).tls_config(tls()?);
        }
        Ok(Self { service, agent: config.build().into() })
    }

    /// Reads. Members of the query that have no value are left out.
    pub(super) fn get(&self, path: &str, query: &[(&str, Option<&str>)]) -> Result<String, Stop> {
        let given = query.iter().filter_map(|(name, value)| value.map(|value| (*name, value)));
        let request = self.agent.get(self.service.url.clone() + path).query_pairs(given);
        answer(self.sent(request.header("authorization", self.credential()).call())?)
    }

    /// Sends a body.
    pub(super) fn post(&self, path: &str, body: &impl Serialize) -> Result<String, Stop> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Output(error.into()))?;
        let request = self.agent.post(self.service.url.clone() + path).header("authorization", self.credential());
        answer(self.sent(request.content_type("application/json").send(&body))?)
    }

    fn credential(&self) -> String {
        format!("Bearer {}", self.service.token)
    }

    fn sent(&self, sent: Result<Response<ureq::Body>, ureq::Error>) -> Result<Response<ureq::Body>, Failure> {
        sent.map_err(|error| {
            let (url, error) = (&self.service.url, error.to_string());
            let remedy = "check the address, and that the service runs";
            Failure::Other(format!("cannot ask {}: {}: {remedy}", printable(url), printable(&error)))
        })
    }
}

/// Trusts what the machine trusts: services inside of an organisation have its own certificates.
fn tls() -> Result<TlsConfig, Failure> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let problem = "this machine trusts no certificate authority: install ca-certificates, or set SSL_CERT_FILE";
        return Err(Failure::Other(problem.to_owned()));
    }
    let roots: Vec<_> = found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

/// The answer, as it was sent, if the service has done what it was asked for.
fn answer(mut response: Response<ureq::Body>) -> Result<String, Stop> {
    let status = response.status();
    let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
    let body = body.map_err(|error| other(&format!("the answer broke off: {error}: try again")))?;
    let text = String::from_utf8(body);
    if status == StatusCode::OK {
        return text.map_err(|_| other("the answer is not that of an approval service: check --url"));
    }
    let problem = text.ok().and_then(|text| serde_json::from_str::<Problem>(&text).ok());
    let Problem { code, detail } = problem.unwrap_or(Problem { code: String::new(), detail: String::new() });
    Err(match status {
        StatusCode::UNAUTHORIZED => other(
            "the service does not accept the token: it may have expired, or be for another service or client. Get a new one",
        ),
        // Without a code, something else than the approval service has answered.
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN if code.is_empty() => {
            other(&format!("the answer is not that of an approval service (HTTP {status}): check --url"))
        }
        _ if status.is_client_error() && !code.is_empty() => Stop::Refused(Refusal { code, detail }),
        _ if status.is_redirection() => other("the service sends us elsewhere, where no token goes: check --url"),
        _ if status.is_server_error() => {
            other(&format!("the service cannot answer now (HTTP {status}): try again later"))
        }
        _ => other(&format!("the answer is not that of an approval service (HTTP {status}): check --url")),
    })
}

fn other(text: &str) -> Stop {
    Stop::Failed(Failure::Other(printable(text).into_owned()))
}
