"""HTTP/1 responses from bytes: llhttp finds the lines, this module decides what they mean.

It adds what llhttp (through `httptools`) leaves to its user: limits, responses to HEAD, interim
responses, bodies that end with the connection, and bytes after the response. A response that
llhttp refuses, or of which it sees only one of several possible ends, is read by `LenientParser`.
"""

from typing import Protocol

from attrs import frozen
from httptools import HttpParserError, HttpParserUpgrade
from httptools import HttpResponseParser as _LlhttpParser

from evserve.http.decoding import content_codings
from evserve.http.errors import BadResponse, ConnectionLost, HeadersTooLarge
from evserve.http.headers import Head, Headers
from evserve.http.lenient import BODILESS, CONNECT_OK, FINAL, LenientParser, early_end


LARGE = 1024 * 1024  # bytes; a longer body is worth special treatment
_FRAMING = frozenset([b"content-length", b"transfer-encoding", b"content-encoding"])
_VERSIONS = frozenset(["1.0", "1.1"])
_BODILESS_METHODS = frozenset([b"HEAD", b"CONNECT"])
_INTERIM = 100
_REPEATABLE = 64 * 1024  # bytes of a response that `LenientParser` may read again


@frozen
class HeaderLimits:
    """Limits of what a server sends beside the bytes of a body."""

    size: int = 256 * 1024  # bytes; the limit of Chrome
    lines: int = 1000

    def check_lines(self, count: int) -> None:
        """Raise HeadersTooLarge for more header lines than are allowed."""
        if count > self.lines:
            raise HeadersTooLarge(f"more than {self.lines} header lines")


class ResponseListener(Protocol):
    """Takes a response from a parser. An exception refuses it, and `feed` raises it."""

    def on_head(self, head: Head) -> None:
        """Take the head of the final response. What is wrong with the body is raised later."""

    def on_data(self, data: bytes) -> None:
        """Take a part of the body, never empty, with its content coding."""


class ResponseParser:
    """Reads the responses of one connection, one at a time: `expect`, then `feed` until `done`."""

    def __init__(self, limits: HeaderLimits) -> None:
        self._limits = limits
        self._parser: _LlhttpParser | None = None
        self._method = b""
        self._listener: ResponseListener
        self._lenient: LenientParser | None = None  # reads this response instead of llhttp
        self._is_large = False
        self._raw = 0  # bytes of a large body still to come
        self._cause: BaseException | None = None  # of llhttp's error, if it came from a callback
        self.done = True
        self.started = False  # whether a byte of the response has arrived
        self.keep_alive = True  # whether the connection can carry another response

    def expect(self, method: bytes, listener: ResponseListener) -> None:
        """Begin to read the response to a request with `method`."""
        if self._parser is None or self._method in _BODILESS_METHODS:  # llhttp expects a body
            self._parser = self._make_parser()
        self._method = method
        self._listener = listener
        self._unread = self._received = self._raw = 0  # unread: bytes since the last body bytes
        self._is_large = False
        self._head: Head | None = None
        self._pieces: list[bytes] | None = []  # all so far, while llhttp may refuse the response
        self._ends_with_connection = False
        self.done = self.started = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection. Raises FetchError for an invalid response."""
        if self.done:
            self.keep_alive = False
            return
        if self._lenient is not None:
            self._lenient.feed(data)
            self.done = self._lenient.done
            return
        if self._raw:
            if len(data) > self._raw:
                self.keep_alive = False
                data = data[: self._raw]
            self._raw -= len(data)
            self._received += len(data)
            self._listener.on_data(data)
            self.done = not self._raw
            return
        self.started = True
        self._unread += len(data)
        if self._pieces is not None:
            self._pieces.append(data)
        self._parse(data)
        if self._is_large:
            # Only count the rest: llhttp would copy every piece of it.
            self._is_large = False
            assert self._head is not None
            assert self._head.length is not None
            self._raw = self._head.length - self._received
            if self._raw:
                self._parser = None
        elif self._unread > self._limits.size and not self.done:
            raise HeadersTooLarge(f"more than {self._limits.size} bytes without a body")
        elif self._received > _REPEATABLE:
            self._pieces = None

    def finish(self) -> None:
        """Take the end of the connection. Raises FetchError if the response is not complete."""
        if not self.started:
            raise ConnectionLost("the connection was closed before a response")
        if self._lenient is not None:
            self._lenient.finish()
        elif not self._ends_with_connection:
            raise early_end(self._head, self._received)
        self.done, self.keep_alive = True, False

    def _make_parser(self) -> _LlhttpParser:
        parser = _LlhttpParser(self)
        # Some servers pad sizes of chunks to a width, which only the last ones may show.
        parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        return parser

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._refused()

    def _refused(self) -> None:
        cause, self._cause = self._cause, None
        self._parser = None
        self.keep_alive = False
        if self.done:
            return  # the response was valid, and what follows is ignored
        if cause is not None and not isinstance(cause, _Irregular):
            raise cause from None
        if self._pieces is None:
            raise BadResponse(f"invalid HTTP after {self._received} bytes of a body in chunks")
        pieces, self._pieces = self._pieces, None
        self._unread = 0
        self._lenient = LenientParser(
            self._limits, self._method, self._listener, self._head, self._received
        )
        self._lenient.feed(b"".join(pieces))
        self.done = self._lenient.done

    # Called by llhttp.

    def on_message_begin(self) -> None:
        """Start a header, of an interim response or the final one."""
        if self.done:
            raise BadResponse("a response without a request")
        self._reason = b""
        self._lines: list[tuple[bytes, bytes]] = []

    def on_status(self, reason: bytes) -> None:
        """Take a piece of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header or trailer line. llhttp leaves the blanks after a value."""
        self._lines.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        """Check the header and decide how the body ends."""
        try:
            self._take_head()
        except BaseException as error:
            self._cause = error
            raise

    def on_body(self, data: bytes) -> None:
        """Pass on a part of the body."""
        if self.done:
            raise BadResponse("a body without a request for it")
        self._unread = 0
        self._received += len(data)
        try:
            self._listener.on_data(data)
        except BaseException as error:
            self._cause = error
            raise

    def on_message_complete(self) -> None:
        """Note the end. The caller of `feed` acts on it, when it is known whether more follows."""
        if self._head is not None:
            if self._lines:
                self._head.trailers = Headers(self._lines)
            self.done = True
            self._pieces = None

    def _take_head(self) -> None:
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if self._unread > self._limits.size:
            size = sum(len(name) + len(value) + 4 for name, value in self._lines)
            if size > self._limits.size:
                raise HeadersTooLarge(f"more than {self._limits.size} bytes of header")
        self._limits.check_lines(len(self._lines))
        if status < FINAL:
            if status < _INTERIM:
                raise _Irregular
            return
        self.keep_alive = parser.should_keep_alive()
        head = Head(
            status, self._reason, parser.get_http_version(), Headers(self._lines), None, None
        )
        self._frame(head)
        self._unread = 0
        self._head = head
        self._lines = []
        self._listener.on_head(head)
        self.done = self._method == b"HEAD" or (
            self._method == b"CONNECT" and status in CONNECT_OK
        )

    def _frame(self, head: Head) -> None:
        """Find out how the body ends. Raises _Irregular if others could see another end."""
        length: bytes | None = None
        codings = encoding = b""
        for name, value in self._lines:
            key = name.lower()
            if key in _FRAMING:
                if key == b"content-length":
                    length = value
                elif key == b"transfer-encoding":
                    codings += b"," + value.lower()
                else:
                    encoding += b"," + value
        # In the last case, llhttp would take chunks without noticing that there should be none.
        is_odd = codings and (
            codings != b",chunked" or head.version == "1.0" or self._method == b"HEAD"
        )
        if is_odd or head.version not in _VERSIONS:
            raise _Irregular
        if encoding:
            head.encoding = b",".join(content_codings(encoding)) or None
        if not codings:
            self._pieces = None  # llhttp refuses nothing of such a body
        if self._method == b"HEAD" or head.status in BODILESS:
            head.length = 0
        elif length is not None:
            head.length = int(length)
            self._is_large = head.length > LARGE
        else:
            self._ends_with_connection = not codings


class _Irregular(Exception):  # noqa: N818 # not an error
    """Leaves llhttp when `LenientParser` must read the response."""
