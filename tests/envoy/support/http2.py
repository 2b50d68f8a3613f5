"""An HTTP/2 client with prior knowledge, frame by frame: split bodies, trailers, half a request."""

import socket
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import h2.config
import h2.connection
import h2.events
from stack import LOOPBACK

from .http1 import Headers, Response


class Connection:
    """One connection to the gateway; one request at a time is enough here."""

    def __init__(self, port: int, timeout: float = 15) -> None:
        self.authority = f"{LOOPBACK}:{port}"
        self.socket = socket.create_connection((LOOPBACK, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Requests are sent as they are: what is wrong with them is up to the gateway.
        config = h2.config.H2Configuration(
            header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self._events: dict[int, list[h2.events.Event]] = defaultdict(list)
        self._flush()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def start(self, method: str, target: str, headers: Headers, *, end: bool = False) -> int:
        """Sends the headers of a request; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", target)]
        plain = [(name.lower(), value) for name, value in headers]
        self.h2.send_headers(stream, [*pseudo, *plain], end_stream=end)
        self._flush()
        return stream

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Sends one DATA frame, as soon as flow control allows. A stream that was answered already takes no more."""
        while not self._is_over(stream) and self.h2.local_flow_control_window(stream) < len(data):
            self._receive()
        if not self._is_over(stream):
            self.h2.send_data(stream, data, end_stream=end)
            self._flush()

    def trailers(self, stream: int, trailers: Headers) -> None:
        """Ends the request with trailers."""
        self.h2.send_headers(stream, [(name.lower(), value) for name, value in trailers], end_stream=True)
        self._flush()

    def reset(self, stream: int) -> None:
        """Takes the request back."""
        self.h2.reset_stream(stream)
        self._flush()

    def response(self, stream: int) -> Response:
        """Reads the whole answer."""
        while not self._is_over(stream):
            self._receive()
        if not self._last(stream, h2.events.StreamEnded):
            reset = self._last(stream, h2.events.StreamReset)
            raise ConnectionResetError(f"stream reset: {reset.error_code}")
        headers = [(str(name), str(value)) for name, value in self._last(stream, h2.events.ResponseReceived).headers]
        body = b"".join(event.data for event in self._events[stream] if isinstance(event, h2.events.DataReceived))
        return Response(int(dict(headers)[":status"]), tuple(headers), body)

    def _is_over(self, stream: int) -> bool:
        ends = (h2.events.StreamEnded, h2.events.StreamReset)
        return any(isinstance(event, ends) for event in self._events[stream])

    def _last(self, stream: int, kind: type[Any]) -> Any:
        return next((event for event in reversed(self._events[stream]) if isinstance(event, kind)), None)

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the gateway")
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ConnectionTerminated):
                raise ConnectionError(f"GOAWAY {event.error_code}")
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._events[getattr(event, "stream_id", None) or 0].append(event)
        self._flush()

    def _flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())


def request(
    port: int, method: str, target: str, headers: Headers, frames: Iterable[bytes] = (), trailers: Headers | None = None
) -> Response:
    """One request on a connection of its own, its body in these DATA frames."""
    frames = list(frames)
    with Connection(port) as connection:
        stream = connection.start(method, target, headers, end=not frames and trailers is None)
        for index, frame in enumerate(frames):
            connection.data(stream, frame, end=trailers is None and index == len(frames) - 1)
        if trailers is not None:
            connection.trailers(stream, trailers)
        return connection.response(stream)
