"""A client that speaks HTTP/2 without TLS and sends all its requests at once over one connection."""

import socket
from typing import NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, WindowUpdated


class Http2Request(NamedTuple):
    """One request; its body has no announced length."""

    path: str
    body: bytes = b""
    method: str = "GET"


class Http2Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        """Connects to loopback, by prior knowledge."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._authority = f"127.0.0.1:{port}"
        self._connection = H2Connection(H2Configuration(header_encoding=False))
        self._connection.initiate_connection()
        self._unsent: dict[int, bytes] = {}
        self._statuses: dict[int, int] = {}
        self._open: set[int] = set()

    def ask(self, *requests: Http2Request) -> list[int]:
        """Sends the requests; returns their statuses in the same order, 0 for a stream that was reset."""
        streams = [self._begin(request) for request in requests]
        while self._open & set(streams):
            self._take_turn()
        return [self._statuses.get(stream, 0) for stream in streams]

    def leave_half_way(self, request: Http2Request) -> None:
        """Resets the stream once a part of the response has arrived."""
        stream = self._begin(request)
        while stream not in self._statuses:
            self._take_turn()
        self._connection.reset_stream(stream)
        self._flush()

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close_connection()
        self._flush()
        self._socket.close()

    def _begin(self, request: Http2Request) -> int:
        stream = self._connection.get_next_available_stream_id()
        head = [
            (":method", request.method),
            (":path", request.path),
            (":scheme", "http"),
            (":authority", self._authority),
        ]
        self._connection.send_headers(stream, head, end_stream=not request.body)
        self._open.add(stream)
        if request.body:
            self._unsent[stream] = request.body
            self._send_body(stream)
        return stream

    def _send_body(self, stream: int) -> None:
        while rest := self._unsent.get(stream):
            window = self._connection.local_flow_control_window(stream)
            size = min(window, self._connection.max_outbound_frame_size, len(rest))
            if size == 0:
                return
            self._connection.send_data(stream, rest[:size], end_stream=size == len(rest))
            self._unsent[stream] = rest[size:]

    def _take_turn(self) -> None:
        self._flush()
        data = self._socket.recv(65536)
        assert data, "the server has closed the connection"
        for event in self._connection.receive_data(data):
            self._heed(event)

    def _heed(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self._statuses[event.stream_id] = int(dict(event.headers)[b":status"])
        elif isinstance(event, DataReceived):
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded | StreamReset):
            self._open.discard(event.stream_id)
        elif isinstance(event, WindowUpdated):
            for stream in list(self._unsent):
                self._send_body(stream)

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())
