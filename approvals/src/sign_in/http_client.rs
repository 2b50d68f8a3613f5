//! Requests to the OpenID provider.

use std::pin::Pin;
use std::time::Duration;

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

/// Time that one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer, at most: key sets with certificates are the largest.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Not sent, or nothing came.
    #[error("{0}")]
    Transport(#[from] reqwest::Error),
    /// The answer is larger than anything a provider has to say.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer has no form.
    #[error("{0}")]
    Malformed(#[from] http::Error),
}

/// A client that follows no redirects: what a provider names is asked, and nothing that it points to.
#[derive(Clone, Debug)]
pub(super) struct Http(reqwest::Client);

impl Http {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        builder.timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build().map(Self)
    }

    /// Gets a document.
    pub(super) async fn get(&self, url: &str) -> Result<HttpResponse, HttpError> {
        Self::read(self.0.get(url).send().await?).await
    }

    async fn read(mut answer: reqwest::Response) -> Result<HttpResponse, HttpError> {
        let mut builder = http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            builder = builder.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(builder.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move { Self::read(self.0.execute(request.try_into()?).await?).await })
    }
}
