//! One HTTP stream: callbacks become events, commands become host calls.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::{Rc, Weak};

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::abi::{self, Buffer, HostError, Map};
use super::approval_calls::{self, Answer};
use super::documents;
use super::gateway::Gateway;
use super::host::{self, Level};
use super::metrics;
use crate::exchange::{AnswerBody, Command, Event, Exchange, Flow, HeldRequest, ServiceAnswer, ServiceCall, Verdict};
use crate::http::LocalReply;
use crate::limits;
use crate::units::{UnixMillis, UnixSeconds};

/// What the SDK holds for a stream.
pub(super) struct Stream(Rc<RefCell<Request>>);

/// A request, also within reach of the root, which wakes it when what it waits for is there.
pub(super) struct Request {
    context_id: u32,
    gateway: Rc<Gateway>,
    exchange: Exchange,
    /// The client's address, if the policy judges by it.
    address: Option<IpAddr>,
    received: Received,
    /// Whether the host has reported the end of the answer.
    is_answered: bool,
    /// When the first of it came; zero for not yet.
    started: UnixMillis,
    /// When the root is to look after the answer.
    watched_until: Option<UnixSeconds>,
    /// Bytes of an unfinished event, as the gateway counts them.
    held: usize,
    /// The call to an approval service that is under way.
    call: Option<u32>,
    /// The host has not taken the latest one.
    is_call_refused: bool,
    /// What the gateway counts for a request that waits for an approval.
    waiting: Option<HeldRequest>,
    own: Weak<RefCell<Self>>,
}

/// How much of the request the host has reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Received {
    Part,
    AllWithoutBody,
    AllWithBody,
}

impl Stream {
    pub(super) fn new(context_id: u32, gateway: Rc<Gateway>) -> Self {
        let exchange = Exchange::new(gateway.next_decision(), gateway.next_salt());
        let received = Received::Part;
        Self(Rc::new_cyclic(|own| {
            let (started, watched_until, own) = (UnixMillis::default(), None, own.clone());
            RefCell::new(Request {
                context_id,
                gateway,
                exchange,
                address: None,
                received,
                is_answered: false,
                started,
                watched_until,
                held: 0,
                call: None,
                is_call_refused: false,
                waiting: None,
                own,
            })
        }))
    }

    fn with<R>(&self, otherwise: R, work: impl FnOnce(&mut Request) -> R) -> R {
        match self.0.try_borrow_mut() {
            Ok(mut request) => work(&mut request),
            Err(_) => otherwise,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.with((), |request| {
            request.gateway.forget(request.context_id, request.watched_until);
            request.gateway.hold(request.held, 0);
            request.gateway.hold_request(request.waiting, None);
            request.call.into_iter().for_each(|token| request.gateway.forget_call(token));
        });
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _: usize) {
        let answer = Answer::read(headers, body_size);
        self.with((), |request| request.service_answered(token, answer.as_ref()));
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.with(Action::Pause, |request| {
            if end_of_stream {
                request.received = Received::AllWithoutBody;
            }
            let event = match host::headers(Map::RequestHeaders) {
                Ok(headers) => {
                    let peer = host::peer(request.gateway.peer_needs);
                    request.address = peer.address;
                    Event::RequestHeaders { headers, end_of_stream, peer }
                }
                Err(_) => Event::HostFailure,
            };
            request.take_in(event)
        })
    }

    fn on_http_request_body(&mut self, buffered: usize, end_of_stream: bool) -> Action {
        self.with(Action::Pause, |request| {
            if end_of_stream { request.complete() } else { request.take_in(Event::RequestBody { buffered }) }
        })
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.with(Action::Pause, |request| match host::drop_trailers(Map::RequestTrailers) {
            Ok(()) => request.complete(),
            Err(_) => request.take_in(Event::HostFailure),
        })
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.with(Action::Pause, |request| {
            request.is_answered = end_of_stream;
            let event = match host::headers(Map::ResponseHeaders) {
                Ok(headers) => Event::ResponseHeaders { headers, end_of_stream },
                Err(_) => Event::HostFailure,
            };
            request.take_in(event)
        })
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.with(Action::Pause, |request| {
            request.is_answered = end_of_stream;
            match request.exchange.answer_body() {
                AnswerBody::Unread => Action::Continue,
                AnswerBody::Withheld => Action::Pause,
                AnswerBody::Whole if end_of_stream => request.answer_complete(),
                AnswerBody::Whole => request.take_in(Event::ResponseBody { buffered: size }),
                AnswerBody::ForRecord => match abi::buffer(Buffer::ResponseBody, size) {
                    Ok(bytes) => {
                        request.exchange.read_answer(&bytes);
                        Action::Continue
                    }
                    Err(_) => request.take_in(Event::HostFailure),
                },
                AnswerBody::InChunks => match abi::buffer(Buffer::ResponseBody, size) {
                    Ok(bytes) => request.take_in_chunk(&bytes, end_of_stream),
                    Err(_) => request.take_in(Event::HostFailure),
                },
            }
        })
    }

    /// Comes once for every stream, after everything else and before the access loggers; for one that the proxy refused
    /// by itself, without anything before.
    fn on_log(&mut self) {
        let is_written = self.with(false, |request| {
            request.write_record();
            true
        });
        if !is_written {
            metrics::count("toolgate.audit.lost");
        }
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if host::drop_trailers(Map::ResponseTrailers).is_err() {
            return self.with(Action::Pause, |request| request.take_in(Event::HostFailure));
        }
        self.with(Action::Pause, |request| {
            request.is_answered = true;
            match request.exchange.answer_body() {
                AnswerBody::Unread | AnswerBody::ForRecord => Action::Continue,
                AnswerBody::Withheld => Action::Pause,
                AnswerBody::Whole => request.answer_complete(),
                AnswerBody::InChunks => request.take_in_chunk(b"", true),
            }
        })
    }
}

impl Request {
    /// What this request waits for has come, or will not.
    pub(super) fn wake(&mut self) {
        if abi::set_effective_context(self.context_id).is_err() {
            return;
        }
        let action = self.take_in(Event::Settled);
        self.go_on(action);
    }

    /// The approval service has answered, or has not. An answer to a call that does not matter any more is dropped.
    pub(super) fn service_answered(&mut self, token: u32, answer: Option<&Answer>) {
        self.gateway.forget_call(token);
        if self.call != Some(token) || abi::set_effective_context(self.context_id).is_err() {
            return;
        }
        self.call = None;
        let action = self.take_in(Event::ServiceAnswered(Answer::meaning(answer)));
        self.go_on(action);
    }

    /// Lets a request that was held go on, once the host's report of its end has been repeated where that matters.
    fn go_on(&mut self, action: Action) {
        let action = match (action, self.received) {
            (Action::Pause, Received::AllWithoutBody) if self.exchange.expects_body() => {
                self.take_in(Event::RequestComplete { body: b"" })
            }
            (Action::Pause, Received::AllWithBody) if self.exchange.expects_body() => self.complete(),
            (action, _) => action,
        };
        if action == Action::Continue
            && let Err(error) = abi::continue_request()
        {
            host::log(Level::Error, &format!("toolgate: a request cannot be resumed: {error}"));
        }
    }

    /// The whole request is there, with a body that the host holds.
    fn complete(&mut self) -> Action {
        self.received = Received::AllWithBody;
        if !self.exchange.expects_body() {
            return self.take_in(Event::RequestComplete { body: b"" });
        }
        // One byte more than is allowed shows that there is too much.
        let most = self.gateway.policy.max_request_bytes.get().saturating_add(1);
        match abi::buffer(Buffer::RequestBody, most) {
            Ok(body) => self.take_in(Event::RequestComplete { body: &body }),
            Err(_) => self.take_in(Event::HostFailure),
        }
    }

    /// The whole answer is there, and the host holds it.
    fn answer_complete(&mut self) -> Action {
        // One byte more than is allowed shows that there is too much.
        match abi::buffer(Buffer::ResponseBody, limits::MAX_LIST_BYTES.saturating_add(1)) {
            Ok(body) => self.take_in(Event::ResponseComplete { body: &body }),
            Err(_) => self.take_in(Event::HostFailure),
        }
    }

    /// The next part of an event stream. The one that would hold more than all streams of the worker may is cut off.
    fn take_in_chunk(&mut self, bytes: &[u8], end_of_stream: bool) -> Action {
        let action = self.take_in(Event::ResponseChunk { bytes, end_of_stream });
        let held = self.exchange.held_bytes();
        let is_too_much = self.gateway.hold(self.held, held) > limits::MAX_HELD_BYTES && held > self.held;
        self.held = held;
        if !is_too_much {
            return action;
        }
        self.exchange.abandon("too_much_held");
        let now = host::now().unwrap_or_default();
        if let Err(error) = self.run(Command::CutOff { reason: "too_much_held" }, now) {
            host::log(Level::Error, &format!("toolgate: a stream cannot be cut off: {error}"));
        }
        Action::Pause
    }

    /// Looks whether the answer may still go on.
    pub(super) fn look_after(&mut self) {
        self.watched_until = None;
        if abi::set_effective_context(self.context_id).is_ok() {
            self.take_in(Event::TimePassed);
        }
    }

    fn take_in(&mut self, event: Event<'_>) -> Action {
        let mut commands = Vec::new();
        let (now, event) = match host::now() {
            Ok(now) => (now, event),
            Err(_) => (UnixMillis::default(), Event::HostFailure),
        };
        if self.started == UnixMillis::default() {
            self.started = now;
        }
        let exchange = &mut self.exchange;
        let handled = self
            .gateway
            .with_surroundings(now.seconds(), |surroundings| exchange.handle(event, surroundings, &mut commands));
        let action = match (handled, commands.into_iter().try_for_each(|command| self.run(command, now))) {
            (Some(Flow::Pass), Ok(())) => Action::Continue,
            (Some(Flow::Hold), Ok(())) => Action::Pause,
            (None, _) | (_, Err(_)) => self.refuse(),
        };
        let waiting = self.exchange.held_request();
        self.gateway.hold_request(self.waiting, waiting);
        self.waiting = waiting;
        // The host did not take a call, so that no answer will come. The exchange asks elsewhere then, or gives up.
        if std::mem::take(&mut self.is_call_refused) {
            return self.take_in(Event::ServiceAnswered(ServiceAnswer::Unreachable));
        }
        action
    }

    /// Calls an approval service.
    fn call_service(&mut self, call: &ServiceCall) -> Result<(), HostError> {
        let policy = self.gateway.policy.approval.as_ref().ok_or(HostError(0))?;
        let token = approval_calls::dispatch(policy, call);
        if !call.is_last_word {
            token.into_iter().for_each(|token| self.gateway.note_call(token, self.own.clone()));
            self.call.into_iter().for_each(|earlier| self.gateway.forget_call(earlier));
            self.call = token;
            self.is_call_refused = token.is_none();
        }
        Ok(())
    }

    fn run(&mut self, command: Command, now: UnixMillis) -> Result<(), HostError> {
        match command {
            Command::EditRequestHeaders(edits) => host::edit_headers(Map::RequestHeaders, &edits),
            Command::EditResponseHeaders(edits) => host::edit_headers(Map::ResponseHeaders, &edits),
            Command::Reply(reply) => host::reply(&reply),
            Command::Await(awaited) => {
                if !self.gateway.wait_for(awaited, self.context_id, self.own.clone()) {
                    metrics::count(&documents::metric(awaited, "too_many_waiting"));
                    return Err(HostError(0));
                }
                self.gateway.call_root()
            }
            Command::Decided { verdict, reason } => {
                metrics::count_decision(verdict, reason);
                self.write_provisional(now);
                Ok(())
            }
            Command::CallService(call) => self.call_service(&call),
            Command::ReplaceRequestBody(body) => abi::set_buffer(Buffer::RequestBody, &body),
            Command::CountApproval(what) => {
                metrics::count(&format!("toolgate.approvals.{what}"));
                Ok(())
            }
            Command::ReplaceResponseBody(body) => abi::set_buffer(Buffer::ResponseBody, &body),
            Command::Watch(until) => {
                if !self.gateway.watch(until, self.context_id, self.own.clone()) {
                    metrics::count("toolgate.streams.too_many");
                    return Err(HostError(0));
                }
                self.watched_until = Some(until);
                Ok(())
            }
            Command::CutOff { reason } => {
                metrics::count(&format!("toolgate.streams.cut_off.{reason}"));
                abi::close_response()
            }
            Command::Withheld { what, count } => {
                metrics::add(&format!("toolgate.withheld.{what}"), i64::try_from(count).unwrap_or(i64::MAX));
                Ok(())
            }
            Command::UpstreamRefused => {
                metrics::count("toolgate.upstream.refused");
                Ok(())
            }
            Command::UpstreamUnusable { reason, remedy } => {
                metrics::count(&format!("toolgate.upstream.{reason}"));
                if self.gateway.is_news(reason) {
                    host::log(Level::Error, &format!("toolgate: {reason}: {remedy}"));
                }
                Ok(())
            }
        }
    }

    /// The record of what is let through now: should the virtual machine die, it is the only one.
    fn write_provisional(&self, now: UnixMillis) {
        let Some(audit) = &self.gateway.policy.audit else { return };
        if let Some(entry) = self.exchange.provisional(self.started, now) {
            self.gateway.trail.write_provisional(audit, &entry);
        }
    }

    /// The record of the stream, which has ended.
    fn write_record(&mut self) {
        let Self { gateway, exchange, address, started, is_answered, .. } = self;
        let Some(audit) = &gateway.policy.audit else { return };
        // A record without its time is better than none.
        let now = host::now().unwrap_or_default();
        let started = if *started == UnixMillis::default() { now } else { *started };
        let ending = host::ending(started, now, !*is_answered, exchange.status(), *address);
        gateway.trail.write(audit, &exchange.conclude(&ending, &gateway.policy));
    }

    /// The host did not do what was asked: whatever was decided, this message goes nowhere.
    fn refuse(&mut self) -> Action {
        self.exchange.abandon("host_failure");
        metrics::count_decision(Verdict::Deny, "host_failure");
        if let Err(error) = host::reply(&LocalReply::empty(503, "host_failure")) {
            host::log(Level::Error, &format!("toolgate: a request cannot be answered: {error}"));
        }
        Action::Pause
    }
}

/// A stream that came before there was a policy.
pub(super) struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let reply = LocalReply::empty(503, "no_policy");
        if let Err(error) = host::reply(&reply) {
            host::log(Level::Error, &format!("toolgate: a request cannot be answered: {error}"));
        }
        Action::Pause
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        Action::Pause
    }
}
