//! What can happen to an exchange.

use crate::http::HeaderList;
use crate::identity::Peer;

/// What came of a call to an approval service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServiceAnswer<'a> {
    /// An answer of its own.
    Reply {
        /// HTTP status.
        status: u16,
        /// The whole body.
        body: &'a [u8],
    },
    /// No connection, or one that broke.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// An answer of more than [`crate::limits::MAX_APPROVAL_ANSWER_BYTES`].
    Oversized,
}

/// Something that the host reported about an exchange.
#[derive(Debug)]
pub enum Event<'a> {
    /// The request's headers arrived.
    RequestHeaders {
        /// All of them.
        headers: HeaderList,
        /// No body and no trailers follow.
        end_of_stream: bool,
        /// The other end of the connection; needs to be known only if the policy asks for it.
        peer: Peer,
    },
    /// More of the body arrived; the proxy holds it.
    RequestBody {
        /// Bytes held so far.
        buffered: usize,
    },
    /// The request is complete, by its last body byte or its trailers.
    RequestComplete {
        /// The whole body.
        body: &'a [u8],
    },
    /// The fetch that this exchange waits for, see [`super::Awaited`], has ended, well or badly. If the request was
    /// complete before, [`Self::RequestComplete`] is to follow again, as the exchange keeps no body.
    Settled,
    /// The approval service answered to the latest [`super::Command::CallService`], or did not. If the exchange expects the
    /// body then, [`Self::RequestComplete`] is to follow again.
    ServiceAnswered(ServiceAnswer<'a>),
    /// The answer's headers arrived, from the upstream or from the proxy itself.
    ResponseHeaders {
        /// All of them.
        headers: HeaderList,
        /// No body and no trailers follow.
        end_of_stream: bool,
    },
    /// More of the answer arrived; the proxy holds it.
    ResponseBody {
        /// Bytes held so far.
        buffered: usize,
    },
    /// The answer is complete, by its last body byte or its trailers.
    ResponseComplete {
        /// The whole body.
        body: &'a [u8],
    },
    /// The next part of an answer that is looked at as it arrives.
    ResponseChunk {
        /// The part.
        bytes: &'a [u8],
        /// No more of the body follows.
        end_of_stream: bool,
    },
    /// It is time to see whether the answer may go on.
    TimePassed,
    /// The host refused something that the decision depends on.
    HostFailure,
}
