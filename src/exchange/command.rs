//! What the host is asked to do.

use std::borrow::Cow;

use crate::http::LocalReply;
use crate::identity::IdentityHeaders;
use crate::jwt::IssuerIndex;
use crate::units::{Seconds, UnixSeconds};

/// Something to be done, in the order given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Change the request's headers before it goes upstream.
    EditRequestHeaders(HeaderEdits),
    /// Change the answer's headers before it goes to the client.
    EditResponseHeaders(HeaderEdits),
    /// Answer in place of the upstream. At most once per exchange.
    Reply(LocalReply),
    /// Report [`super::Event::Settled`] once the fetch of this document has ended.
    Await(Awaited),
    /// Call an approval service, and report its answer with [`super::Event::ServiceAnswered`]. The answer to a call before
    /// this one is of no interest any more.
    CallService(ServiceCall),
    /// Put this in place of the request's body.
    ReplaceRequestBody(Vec<u8>),
    /// Count something about approvals; a stable name.
    CountApproval(&'static str),
    /// Count a decision. Exactly once for an exchange that is decided.
    Decided {
        /// What was decided.
        verdict: Verdict,
        /// Stable reason code.
        reason: &'static str,
    },
    /// Count an upstream that did not accept what the gateway let through.
    UpstreamRefused,
    /// Count an upstream whose answer cannot be passed on because of how it is set up, and tell the operator.
    UpstreamUnusable {
        /// Stable reason code.
        reason: &'static str,
        /// What can be done about it.
        remedy: &'static str,
    },
    /// Put this in place of the part of the answer's body at hand.
    ReplaceResponseBody(Vec<u8>),
    /// Report [`super::Event::TimePassed`] when it is later than this, if the exchange goes on for so long.
    Watch(UnixSeconds),
    /// Cut the answer off: its headers have been sent, and nothing more of it may be.
    CutOff {
        /// Stable reason code.
        reason: &'static str,
    },
    /// Count what of an answer was not passed on.
    Withheld {
        /// What it was; a stable code.
        what: &'static str,
        /// How many.
        count: usize,
    },
}

/// A call to an approval service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceCall {
    /// The place of the service in [`crate::config::ApprovalPolicy::services`].
    pub service: usize,
    /// HTTP method.
    pub method: &'static str,
    /// Path, after that of the service.
    pub path: String,
    /// JSON; empty for none.
    pub body: Vec<u8>,
    /// How long the service may wait for something to happen, beside the time for its answer.
    pub wait: Seconds,
    /// Whether an answer would come too late to matter.
    pub is_last_word: bool,
}

/// A document without which a caller cannot be judged.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Awaited {
    /// The keys of an issuer.
    Keys(IssuerIndex),
    /// The list of those who were cut off.
    Revocations,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The request went upstream.
    Allow,
    /// It did not.
    Deny,
    /// It was not for the upstream: metadata, preflight.
    Serve,
}

impl Verdict {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Serve => "serve",
        }
    }
}

/// Changes of a header list, in this order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderEdits {
    /// Names of which every value goes.
    pub remove: Vec<Cow<'static, [u8]>>,
    /// Who is calling: set like the others, but told in the same words for every request with the same token.
    pub identity: Option<IdentityHeaders>,
    /// Names and values that are set, in place of any values there.
    pub set: Vec<(&'static str, Cow<'static, str>)>,
    /// Names and values that come after any values there.
    pub add: Vec<(&'static str, Cow<'static, str>)>,
}

impl HeaderEdits {
    /// Nothing to change.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.all_set().next().is_none() && self.add.is_empty()
    }

    /// Names and values of all headers that are set.
    pub fn all_set(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let identity = self.identity.iter().flat_map(|headers| headers.iter());
        let identity = identity.map(|(name, value)| (*name, value.as_str()));
        identity.chain(self.set.iter().map(|(name, value)| (*name, &**value)))
    }
}

/// Whether the message at hand may move on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flow {
    /// Not yet, or never.
    Hold,
    /// Now.
    Pass,
}
