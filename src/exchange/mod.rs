//! One HTTP exchange as a state machine: events in, commands out.
//!
//! ```text
//! RequestHeaders ─ path, origin, metadata, token, session ─┬─ reply ──────────────────────────────► Closed
//!                                                          ├─ keys or revocations to come: Await ─ Settled ┐
//!                                                          └─ ExpectBody ◄─────────────────────────────────┘
//! RequestComplete ─ strict parse, classify, decide ────────┬─ Deny: reply ────────────────────────► Closed
//!                                                          ├─ Permit: header edits, pass ─────────► Forwarded
//!                                                          └─ Oblige: people are asked ───────────► AwaitApproval
//! ServiceAnswered ─ approved, and used up ─ ExpectBody: RequestComplete once more
//!                 └ anything else, or nothing for too long: reply ───────────────────────────────► Closed
//! ResponseHeaders ─ challenges are replaced, session ids sealed
//!                 ├─ no list, no events ─────────────────────────────────────────────────────────► Answered
//!                 ├─ Holding: a list ─ ResponseComplete ─ what the caller may not see is out ────► Finished
//!                 └─ Streaming: each event on its own ─ end, or the token expires ───────────────► Finished
//! ```
//!
//! Nothing here calls the host, reads a clock or draws a random number, so every order of events can be tested. The
//! only way to `Flow::Pass` a request leads through a [`crate::policy::Permit`]; an event out of phase denies.

mod account;
mod admit;
mod answer;
mod approval;
mod approval_note;
mod command;
mod ending;
mod event;
mod hygiene;
mod request;
mod response;
mod session;
mod view;

pub use approval::{Circuits, HeldRequest, HeldRequests};
pub use command::{Awaited, Command, Flow, HeaderEdits, ServiceCall, Verdict};
pub use ending::Ending;
pub use event::{Event, ServiceAnswer};

use std::fmt;

use account::Account;

use crate::audit::{Entry, Salt};
use crate::config::CompiledPolicy;
use crate::identity::{Definitions, Peer, Principal, RevocationFeed, Revoked};
use crate::jwt::{KeyRing, SignatureVerifier, TokenCache};
use crate::policy::Subject;
use crate::units::{UnixMillis, UnixSeconds};

/// What the answer to an exchange depends on besides its events.
#[expect(missing_debug_implementations, reason = "a verifier has nothing to show")]
pub struct Surroundings<'a> {
    /// The policy in force when the exchange began.
    pub policy: &'a CompiledPolicy,
    /// The issuers' keys as this worker knows them.
    pub keys: &'a mut KeyRing,
    /// Callers whose tokens were verified before.
    pub tokens: &'a mut TokenCache<Principal>,
    /// Definitions of tools as this worker has last seen them.
    pub definitions: &'a mut Definitions,
    /// The list of those who were cut off, besides those in the policy, as this worker knows it; `None` where the
    /// policy names none.
    pub revoked: Option<&'a RevocationFeed>,
    /// What this worker has seen of the approval services.
    pub circuits: &'a mut Circuits,
    /// What all requests of this worker hold that wait for approvals.
    pub held: &'a HeldRequests,
    /// How signatures are checked.
    pub verifier: &'a dyn SignatureVerifier,
    /// Now.
    pub now: UnixSeconds,
}

impl Surroundings<'_> {
    /// A caller now, as the decision function sees it.
    fn subject<'a>(&'a self, principal: &'a Principal, peer: &'a Peer) -> Subject<'a> {
        Subject { principal, peer, revoked: self.revoked(), definitions: self.definitions, now: self.now }
    }

    /// Who is cut off now.
    fn revoked(&self) -> Revoked<'_> {
        Revoked::known(self.revoked, self.now)
    }
}

/// Identifies a decision in the answer to the client, towards the upstream, and in records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DecisionId(u128);

impl DecisionId {
    /// An id from unique bits.
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The id as it is written: 32 hexadecimal digits.
    pub fn text(self) -> DecisionText {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'0'; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            for (digit, half) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
                *digit = DIGITS.get(usize::from(half)).copied().unwrap_or_default();
            }
        }
        DecisionText(text)
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text().as_str())
    }
}

/// The text of a [`DecisionId`].
#[derive(Clone, Copy, Debug)]
pub struct DecisionText([u8; 32]);

impl DecisionText {
    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The state of one exchange.
#[derive(Debug)]
pub struct Exchange {
    account: Account,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Nothing seen yet.
    ExpectHeaders,
    /// The headers passed; the body is needed for the decision.
    ExpectBody(Box<admit::Head>),
    /// People are asked whether the request may pass.
    AwaitApproval(Box<approval::Waiting>),
    /// The request went upstream.
    Forwarded(Box<response::Forwarded>),
    /// A list comes back, and is held until it is complete.
    Holding(Box<response::Holding>),
    /// Events come back.
    Streaming(Box<response::Streaming>),
    /// An answer comes back that need not be looked at.
    Answered,
    /// Nothing more of the answer may be sent: it is complete, or it was refused or cut off.
    Finished,
    /// Answered by the gateway.
    Closed,
}

/// How the body of an answer is to be reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnswerBody {
    /// Not at all: it passes.
    Unread,
    /// Once it is complete.
    Whole,
    /// Part by part.
    InChunks,
    /// Part by part to [`Exchange::read_answer`]: it passes, whatever it is.
    ForRecord,
    /// Not at all: it must not pass.
    Withheld,
}

impl Exchange {
    /// An exchange of which nothing is known yet. The salt is that of its record.
    pub fn new(id: DecisionId, salt: Salt) -> Self {
        Self { account: Account::new(id, salt), phase: Phase::ExpectHeaders }
    }

    /// Takes in what happened; appends to `commands` what is to be done, in that order, and says whether the message
    /// at hand may move on.
    #[expect(clippy::too_many_lines, reason = "one table of phases and events")]
    pub fn handle(
        &mut self,
        event: Event<'_>,
        surroundings: &mut Surroundings<'_>,
        commands: &mut Vec<Command>,
    ) -> Flow {
        let account = &mut self.account;
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let (next, flow) = match (phase, event) {
            (Phase::ExpectHeaders, Event::RequestHeaders { headers, end_of_stream, peer }) => {
                request::on_headers(account, &headers, peer, end_of_stream, surroundings, commands)
            }
            (Phase::ExpectBody(head), Event::RequestBody { buffered }) => {
                request::on_body_progress(account, head, buffered, surroundings, commands)
            }
            (Phase::ExpectBody(head), Event::RequestComplete { body }) => {
                request::on_complete(account, *head, body, surroundings, commands)
            }
            (Phase::ExpectBody(head), Event::Settled) => request::on_settled(account, *head, surroundings, commands),
            (Phase::AwaitApproval(waiting), Event::ServiceAnswered(answer)) => {
                approval::on_answer(account, waiting, answer, surroundings, commands)
            }
            (Phase::AwaitApproval(waiting), Event::TimePassed) => {
                approval::on_time_passed(account, waiting, surroundings, commands)
            }
            // It came too late to matter.
            (phase, Event::ServiceAnswered(_)) if !matches!(phase, Phase::ExpectHeaders) => (phase, Flow::Hold),
            (Phase::Forwarded(forwarded), Event::ResponseHeaders { headers, end_of_stream }) => {
                response::on_headers(account, forwarded, &headers, end_of_stream, surroundings, commands)
            }
            (Phase::Holding(holding), Event::ResponseBody { buffered }) => {
                response::on_body_progress(account, holding, buffered, commands)
            }
            (Phase::Holding(holding), Event::ResponseComplete { body }) => {
                response::on_complete(account, &holding, body, surroundings, commands)
            }
            (Phase::Streaming(streaming), Event::ResponseChunk { bytes, end_of_stream }) => {
                response::on_chunk(account, streaming, bytes, end_of_stream, surroundings, commands)
            }
            (Phase::Streaming(streaming), Event::TimePassed) => {
                response::on_time_passed(account, streaming, surroundings, commands)
            }
            // It ended, or was cut off, before its time.
            (phase, Event::TimePassed) => (phase, Flow::Hold),
            // The upstream may answer before it has read the whole request.
            (
                phase @ (Phase::Forwarded(_) | Phase::Holding(_) | Phase::Streaming(_) | Phase::Answered),
                Event::RequestBody { .. } | Event::RequestComplete { .. },
            ) => (phase, Flow::Pass),
            // What was looked at passes, and so does the answer of the gateway or of the proxy itself.
            (
                phase @ (Phase::Answered | Phase::Closed),
                Event::ResponseBody { .. } | Event::ResponseComplete { .. } | Event::ResponseChunk { .. },
            ) => (phase, Flow::Pass),
            // The answer is the gateway's or the proxy's own, and the request's last word: nothing can be forwarded now.
            (
                Phase::ExpectHeaders | Phase::ExpectBody(_) | Phase::AwaitApproval(_) | Phase::Closed,
                Event::ResponseHeaders { headers, .. },
            ) => {
                account.note_status(&headers);
                (Phase::Closed, Flow::Pass)
            }
            // Waiting is over for another reason.
            (phase, Event::Settled) if !matches!(phase, Phase::ExpectHeaders) => (phase, Flow::Hold),
            (Phase::Closed, _) => (Phase::Closed, Flow::Hold),
            (Phase::Finished, _) => (Phase::Finished, Flow::Hold),
            (Phase::ExpectHeaders | Phase::ExpectBody(_) | Phase::AwaitApproval(_), _) => {
                request::refuse_broken_host(account, commands)
            }
            // Nothing of the answer has been sent yet: it cannot be read, so it cannot be passed on.
            (Phase::Forwarded(_) | Phase::Holding(_), _) => response::refuse_broken_host(account, commands),
            (Phase::Streaming(_) | Phase::Answered, _) => response::cut_off_by_broken_host(account, commands),
        };
        self.phase = next;
        flow
    }

    /// Ends the exchange, because the adapter has answered for it or cut it off; `reason` is a stable code.
    pub fn abandon(&mut self, reason: &'static str) {
        self.account.fail(reason);
        self.phase = match self.phase {
            // Nothing more of the answer may pass, not even if the adapter's own does not come through either.
            Phase::Holding(_) | Phase::Streaming(_) | Phase::Finished => Phase::Finished,
            Phase::ExpectHeaders
            | Phase::ExpectBody(_)
            | Phase::AwaitApproval(_)
            | Phase::Forwarded(_)
            | Phase::Answered
            | Phase::Closed => Phase::Closed,
        };
    }

    /// Bytes of an event that is not complete yet.
    pub fn held_bytes(&self) -> usize {
        if let Phase::Streaming(streaming) = &self.phase { streaming.held_bytes() } else { 0 }
    }

    /// What the request holds while it waits for an approval.
    pub fn held_request(&self) -> Option<HeldRequest> {
        if let Phase::AwaitApproval(waiting) = &self.phase { Some(waiting.held()) } else { None }
    }

    /// Whether the request's body matters for the decision.
    pub const fn expects_body(&self) -> bool {
        matches!(self.phase, Phase::ExpectBody(_))
    }

    /// How the body of the answer is to be reported.
    pub fn answer_body(&self) -> AnswerBody {
        match self.phase {
            Phase::Holding(_) => AnswerBody::Whole,
            Phase::Streaming(_) => AnswerBody::InChunks,
            Phase::Answered if self.account.reads_answer() => AnswerBody::ForRecord,
            Phase::Answered | Phase::Closed => AnswerBody::Unread,
            // No body comes before its headers.
            Phase::ExpectHeaders
            | Phase::ExpectBody(_)
            | Phase::AwaitApproval(_)
            | Phase::Forwarded(_)
            | Phase::Finished => AnswerBody::Withheld,
        }
    }

    /// Takes note of the next part of an answer that passes, for the record.
    pub fn read_answer(&mut self, part: &[u8]) {
        if matches!(self.phase, Phase::Answered) {
            self.account.read_answer(part);
        }
    }

    /// HTTP status of the answer, once its headers have passed.
    pub const fn status(&self) -> Option<u16> {
        self.account.status
    }

    /// The id of the decision about this exchange.
    pub const fn id(&self) -> DecisionId {
        self.account.id
    }

    /// The record of a request that was let through just now, in case that there is never another one; `None` if it was
    /// not let through.
    pub fn provisional(&self, started: UnixMillis, now: UnixMillis) -> Option<Entry<'_>> {
        self.account.is_allowed().then(|| self.account.provisional(started, now))
    }

    /// The record of the exchange, which has ended.
    pub fn conclude<'a>(&'a mut self, ending: &'a Ending, policy: &'a CompiledPolicy) -> Entry<'a> {
        let outcome = self.account.take_outcome();
        self.account.conclude(ending, policy, outcome)
    }
}
