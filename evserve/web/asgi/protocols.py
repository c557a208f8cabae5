"""uvicorn's protocols with limits to what a client may do to them, which they have not."""

from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from evserve.web.asgi.connection import HEAD_TIME


MAX_HEAD: Final = 65536
"""Bytes of a request's line and headers, or of what else is not its body, when read in pieces."""

MAX_UNREAD_PINGS: Final = 1000
"""Pings of a websocket while its client does not read, after which the connection ends."""


class HTTPProtocol(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is an extra
    """Refuses an endless or an endlessly slow head, and waits for half a head when it drains."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._outside_body = 0  # bytes received since a head was complete, or a part of a body
        self._seconds_without_head = 0
        self._draining = False

    @override
    def data_received(self, data: bytes) -> None:
        self._outside_body += len(data)
        HttpToolsProtocol.data_received(self, data)
        if self._outside_body > MAX_HEAD:
            self._refuse(431)

    @override
    def on_headers_complete(self) -> None:
        self._outside_body = self._seconds_without_head = 0
        HttpToolsProtocol.on_headers_complete(self)
        if self._draining:
            self.shutdown()

    @override
    def on_response_complete(self) -> None:
        if len(self.tasks) == 1:  # with more, it is cheaper to send the answers of a turn together
            self.transport.flush()
        HttpToolsProtocol.on_response_complete(self)

    @override
    def on_body(self, body: bytes) -> None:
        self._outside_body = self._seconds_without_head = 0
        HttpToolsProtocol.on_body(self, body)

    @override
    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        websocket = self.transport.get_protocol()
        if websocket.handshake_initiated:
            return
        answer = b"".join(websocket.conn.data_to_send())  # to a head that `websockets` refuses
        if answer:
            self.transport.write(answer)
            self.transport.close()
        else:  # it has none to a request with a body, and before version 17 to a large head
            self._refuse(400)

    @property
    def is_answering(self) -> bool:
        """Whether a request has been received that is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def owes_answer(self) -> bool:
        """Whether a request is not answered yet, and its client does not keep a body back."""
        if not self.is_answering:
            return False
        cycle = self.cycle
        client_may_send = not (self.flow.read_paused or cycle.waiting_for_100_continue)
        return not (cycle.more_body and client_may_send)

    def second_passed(self) -> None:
        """Close the connection if a request has been awaited for long; called once a second.

        Between two requests, uvicorn's own time-out does that.
        """
        if self.is_answering or self.timeout_keep_alive_task is not None:
            return
        self._seconds_without_head += 1
        if self._seconds_without_head > HEAD_TIME:
            self._refuse(408)

    @override
    def shutdown(self) -> None:
        self._draining = True
        has_partial_head = self.scope is not None and "method" not in self.scope
        if self.is_answering or not has_partial_head:
            HttpToolsProtocol.shutdown(self)

    def _refuse(self, status: int) -> None:
        """Close the connection; say why, unless that would stand in the middle of an answer."""
        if not (self.is_answering or self.transport.is_closing()):
            self.transport.write(
                STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()


class WebSocketProtocol(WebSocketsSansIOProtocol):  # type: ignore[misc]  # uvicorn is an extra
    """Gives up a client that sends pings and does not read the answers, which take memory."""

    _unread_pings = 0

    @override
    def handle_ping(self) -> None:
        super().handle_ping()
        if self.writable.is_set():
            self._unread_pings = 0
        else:
            self._unread_pings += 1
            if self._unread_pings == MAX_UNREAD_PINGS:
                self.transport.abort()
