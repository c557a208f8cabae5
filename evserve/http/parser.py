"""HTTP/1 responses from bytes: llhttp finds the lines, this module decides what they mean.

llhttp (through `httptools`) refuses a negative Content-Length, one beside a Transfer-Encoding,
and a second one. This module accepts a second one that says the same, and adds what llhttp leaves
to its user: limits, responses to HEAD, interim responses, bodies that end with the connection,
transfer codings other than chunked, and bytes after the response.
"""

import re
from typing import Protocol

from attrs import define, field, frozen
from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade
from httptools import HttpResponseParser as _LlhttpParser

from evserve.http.errors import (
    BadResponse,
    ConnectionLost,
    HeadersTooLarge,
    TruncatedBody,
)
from evserve.http.headers import Head, Headers


LARGE = 1024 * 1024  # bytes; a longer body is worth special treatment
_FRAMING = frozenset([b"content-length", b"transfer-encoding", b"content-encoding"])
_BODILESS = frozenset([204, 304])
_INTERIM = 100
_FINAL = 200  # lower statuses announce another response
_CONNECT_OK = range(200, 300)

# Content-Length said twice. llhttp has one error class, so only its words tell the cases apart.
_LENGTH_ERRORS = "Duplicate Content-Length", "Invalid character in Content-Length"
_END = re.compile(rb"\n\r?\n")
_END_OVERLAP = 2  # bytes of an end that may be in an earlier piece
_LENGTH = re.compile(rb"content-length[ \t]*:", re.IGNORECASE)
_EQUAL_LENGTHS = re.compile(
    rb"content-length:[ \t]*([0-9]+)(?:[ \t]*,[ \t]*\1)*[ \t]*\r?", re.IGNORECASE
)
_FOLDED = b" ", b"\t"  # the beginning of a line that continues the one before it


@frozen
class HeaderLimits:
    """Limits of what a server sends beside the bytes of a body."""

    size: int = 256 * 1024  # bytes; the limit of Chrome
    lines: int = 1000


class ResponseListener(Protocol):
    """Takes a response from a parser. An exception refuses it, and `feed` raises it."""

    def on_head(self, head: Head) -> None:
        """Take the head of the final response."""

    def on_data(self, data: bytes) -> None:
        """Take a part of the body, never empty, with its content coding."""


class ResponseParser:
    """Reads the responses of one connection, one at a time: `expect`, then `feed` until `done`."""

    def __init__(self, limits: HeaderLimits) -> None:
        self._limits = limits
        self._parser: _LlhttpParser | None = None
        self._listener: ResponseListener
        self._is_bodiless = self._is_connect = self._is_large = False
        self._is_distrusted = False
        self._raw = 0  # bytes of a large body still to come
        self.done = True
        self.started = False  # whether a byte of the response has arrived
        self.keep_alive = True  # whether the connection can carry another response

    def expect(self, method: bytes, listener: ResponseListener) -> None:
        """Begin to read the response to a request with `method`."""
        self._parser = self._parser or self._make_parser()
        self._listener = listener
        self._is_bodiless = method == b"HEAD"
        self._is_connect = method == b"CONNECT"
        self._unread = self._received = self._raw = 0  # unread: bytes since the last body bytes
        self._is_large = False
        self._head: Head | None = None
        self._pieces: list[bytes] | None = []  # of the first head, until llhttp has accepted it
        self._repeated: _RepeatedLength | None = None
        self._ends_with_connection = False
        self.done = self.started = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection. Raises FetchError for an invalid response."""
        if self.done:
            self.keep_alive = False
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
        if self._repeated is None:
            self._parse(data)
        else:
            self._parse_repaired(self._repeated)
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

    def finish(self) -> None:
        """Take the end of the connection. Raises FetchError if the response is not complete."""
        if self._head is None:
            when = "within the header" if self.started else "before a response"
            raise ConnectionLost(f"the connection was closed {when}")
        if not self._ends_with_connection:
            length = self._head.length
            total = "" if length is None else f" of {length}"
            raise TruncatedBody(f"the connection was closed after {self._received}{total} bytes")
        self.done, self.keep_alive = True, False

    def _make_parser(self) -> _LlhttpParser:
        parser = _LlhttpParser(self)
        parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        return parser

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._refused(error)

    def _refused(self, error: Exception) -> None:
        cause = error.__context__ if isinstance(error, HttpParserCallbackError) else None
        self._parser = None
        if isinstance(cause, _EndOfMessage):
            return
        self.keep_alive = False
        if self.done:
            return  # the response was valid, and what follows is ignored
        if isinstance(error, HttpParserUpgrade):
            raise BadResponse("the server switched protocols without being asked")
        if cause is not None:
            raise cause
        if self._pieces is not None and str(error) in _LENGTH_ERRORS:
            self._repeated = _RepeatedLength(self._pieces, error)
            self._parse_repaired(self._repeated)
            return
        raise _invalid_http(error)

    def _parse_repaired(self, repeated: "_RepeatedLength") -> None:
        data = repeated.repaired()
        if data is not None:
            self._pieces = self._repeated = None
            self._parser = self._make_parser()
            self._is_distrusted = True  # another length may have been the right one
            self._parse(data)

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
        """Take a header or trailer line."""
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the header and decide how the body ends."""
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if self._unread > self._limits.size:
            size = sum(len(name) + len(value) + 4 for name, value in self._lines)
            if size > self._limits.size:
                raise HeadersTooLarge(f"more than {self._limits.size} bytes of header")
        if len(self._lines) > self._limits.lines:
            raise HeadersTooLarge(f"more than {self._limits.lines} header lines")
        if status < _FINAL:
            if status < _INTERIM:
                raise BadResponse(f"invalid status code {status}")
            self._pieces = None
            return
        self.keep_alive = parser.should_keep_alive() and not self._is_distrusted
        head = Head(
            status, self._reason, parser.get_http_version(), Headers(self._lines), None, None
        )
        self._frame(head)
        self._unread = 0
        self._head = head
        self._lines, self._pieces = [], None
        self._listener.on_head(head)
        if self._is_bodiless or (self._is_connect and status in _CONNECT_OK):
            self.done = True
            raise _EndOfMessage

    def on_body(self, data: bytes) -> None:
        """Pass on a part of the body."""
        self._unread = 0
        self._received += len(data)
        self._listener.on_data(data)

    def on_message_complete(self) -> None:
        """Note the end. The caller of `feed` acts on it, when it is known whether more follows."""
        if self._head is not None:
            if self._lines:
                self._head.trailers = Headers(self._lines)
            self.done = True

    def _frame(self, head: Head) -> None:
        length: bytes | None = None
        codings = b""
        for name, value in self._lines:
            key = name.lower()
            if key in _FRAMING:
                if key == b"content-length":
                    length = value
                elif key == b"transfer-encoding":
                    codings += value.lower()
                else:
                    coding = value.strip().lower()
                    head.encoding = head.encoding + b"," + coding if head.encoding else coding
        if codings and codings != b"chunked":
            raise BadResponse(f"transfer coding {codings.decode('latin-1')!r} is not supported")
        if self._is_bodiless or head.status in _BODILESS:
            head.length = 0
        elif length is not None:
            head.length = int(length)
            self._is_large = head.length > LARGE
        else:
            self._ends_with_connection = not codings


class _EndOfMessage(Exception):  # noqa: N818 # not an error
    """Leaves llhttp when the message is over, although llhttp expects a body."""


@define(eq=False)
class _RepeatedLength:
    """A head with more than one Content-Length (RFC 9110, section 8.6), which llhttp refuses.

    Some servers and proxies repeat it, and curl and browsers accept equal lengths. Only the
    repetition is removed and llhttp parses the head anew, so it still refuses everything else,
    such as a Transfer-Encoding beside the length.
    """

    pieces: list[bytes]
    error: Exception
    _data: bytearray = field(factory=bytearray, init=False)  # the pieces that were searched

    def repaired(self) -> bytes | None:
        """Return all bytes with one length, or None if the head is not complete yet.

        Raises BadResponse if the lengths differ.
        """
        searched = max(0, len(self._data) - _END_OVERLAP)
        self._data += b"".join(self.pieces)
        self.pieces.clear()
        end = _END.search(self._data, searched)
        if end is None:
            return None
        head = _with_one_length(bytes(self._data[: end.end()]))
        if head is None:
            raise _invalid_http(self.error)
        return head + bytes(self._data[end.end() :])


def _with_one_length(head: bytes) -> bytes | None:
    """Return `head` with equal lengths merged, or None if they differ or are not numbers."""
    kept: list[bytes] = []
    length = None
    lines = head.split(b"\n")
    for line, following in zip(lines, [*lines[1:], b""], strict=True):
        if not _LENGTH.match(line):
            kept.append(line)
            continue
        match = _EQUAL_LENGTHS.fullmatch(line)
        if match is None or length not in (None, match[1]) or following.startswith(_FOLDED):
            return None
        if length is None:
            length = match[1]
            kept.append(b"Content-Length: %b\r" % length)
    return b"\n".join(kept)


def _invalid_http(error: Exception) -> BadResponse:
    return BadResponse(f"invalid HTTP: {error}")
