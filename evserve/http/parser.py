"""A Content-Length that is said twice (RFC 9110, section 8.6), which llhttp refuses.

Some servers and what stands before them say it both. As long as they agree it may be read as one,
and curl and browsers do. Here it is only taken out of the head, which llhttp then reads anew: what
else it refuses, such as a Transfer-Encoding beside it, it refuses still.

HTTP/1 responses from bytes: `httptools` finds the lines, this module decides what to believe.

llhttp already refuses a Content-Length beside a Transfer-Encoding, a second one, a negative one;
a second one that says the same is forgiven here. What it leaves to its user is here, too: limits,
answers to HEAD, interim responses, bodies that end with the connection, transfer codings other
than chunked, and bytes nobody asked for.
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


DOUBTS = "Duplicate Content-Length", "Invalid character in Content-Length"  # llhttp's words
_END = re.compile(rb"\n\r?\n")
_OVERLAP = 2  # bytes: so much of an end may have come before
_LENGTH = re.compile(rb"content-length[ \t]*:", re.IGNORECASE)
_AGREEING = re.compile(
    rb"content-length:[ \t]*([0-9]+)(?:[ \t]*,[ \t]*\1)*[ \t]*\r?", re.IGNORECASE
)
_FOLDED = b" ", b"\t"  # how a line begins that belongs to the one before it


@define(eq=False)
class DoubtfulHead:
    """What there is of a response's head; `doubt`: what llhttp says about its lengths."""

    pieces: list[bytes]
    doubt: Exception
    _data: bytearray = field(factory=bytearray, init=False)  # the pieces that were searched

    def mended(self) -> bytes | None:
        """Return all of it with one length; None if its end is not there yet.

        Raises BadResponse if the lengths differ.
        """
        searched = max(0, len(self._data) - _OVERLAP)
        self._data += b"".join(self.pieces)
        self.pieces.clear()
        end = _END.search(self._data, searched)
        if end is None:
            return None
        head = said_once(bytes(self._data[: end.end()]))
        if head is None:
            raise BadResponse(f"not HTTP as it should be: {self.doubt}")
        return head + bytes(self._data[end.end() :])


def said_once(head: bytes) -> bytes | None:
    """Return `head` with equal lengths said once; None if they differ or are no numbers."""
    kept: list[bytes] = []
    length = None
    lines = head.split(b"\n")
    for line, following in zip(lines, [*lines[1:], b""], strict=True):
        if not _LENGTH.match(line):
            kept.append(line)
            continue
        match = _AGREEING.fullmatch(line)
        if match is None or length not in (None, match[1]) or following.startswith(_FOLDED):
            return None
        if length is None:
            length = match[1]
            kept.append(b"Content-Length: %b\r" % length)
    return b"\n".join(kept)


_FRAMING = frozenset([b"content-length", b"transfer-encoding", b"content-encoding"])
_BODILESS = frozenset([204, 304])
_INTERIM = 100
_FINAL = 200  # the first status that ends an exchange: lower ones are interim
_OK_CONNECT = range(200, 300)
LARGE = 1024 * 1024  # bytes: from here on a body is worth some trouble


class Events(Protocol):
    """Who listens to a response; each method may raise FetchError to refuse it."""

    def on_head(self, head: Head) -> None:
        """Take the final response's head."""

    def on_data(self, data: bytes) -> None:
        """Take a part of the body, still content-encoded, never empty."""


@frozen
class HeaderLimits:
    """What a server may send before, between and after the bytes of a body."""

    size: int = 256 * 1024  # bytes; what Chrome takes
    lines: int = 1000


class _Stop(Exception):  # noqa: N818 # not an error: it only leaves llhttp early
    """The message is over, whatever llhttp expects."""


class ResponseParser:
    """One connection's responses, one at a time: `expect`, then `feed` until `done`."""

    def __init__(self, limits: HeaderLimits) -> None:
        self._limits = limits
        self._parser: _LlhttpParser | None = None
        self._events: Events
        self._bodiless = self._connects = self._large = False
        self._is_distrusted = False
        self._raw = 0  # bytes of a large body still to come
        self.done = True
        self.started = False  # whether any byte of the response has arrived
        self.keep_alive = True  # whether another response may follow on this connection

    def expect(self, method: bytes, events: Events) -> None:
        """Begin the response to a request of that method."""
        self._parser = self._parser or self._make_parser()
        self._events = events
        self._bodiless = method == b"HEAD"
        self._connects = method == b"CONNECT"
        self._unread = self._received = self._raw = 0
        self._large = False
        self._head: Head | None = None
        self._pieces: list[bytes] | None = []  # of the first head, until llhttp has taken it
        self._doubtful: DoubtfulHead | None = None
        self._ends_with_connection = False
        self.done = self.started = False

    def _make_parser(self) -> _LlhttpParser:
        parser = _LlhttpParser(self)
        parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        return parser

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection; raises FetchError when they cannot be believed."""
        if self.done:
            self.keep_alive = False
            return
        if self._raw:
            self._pass_on(data)
            return
        self.started = True
        self._unread += len(data)
        if self._pieces is not None:
            self._pieces.append(data)
        if self._doubtful is None:
            self._parse(data)
        else:
            self._reconsider(self._doubtful)
        if self._large:
            self._take_over()
        elif self._unread > self._limits.size and not self.done:
            raise HeadersTooLarge(f"more than {self._limits.size} bytes without any body")

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._refused(error)

    def _reconsider(self, doubtful: DoubtfulHead) -> None:
        data = doubtful.mended()
        if data is not None:
            self._pieces = self._doubtful = None
            self._parser = self._make_parser()
            self._is_distrusted = True  # whoever says it twice may not know which was right
            self._parse(data)

    def _take_over(self) -> None:
        """Leave llhttp: it would copy each piece of a body that needs nothing but counting."""
        assert self._head is not None
        assert self._head.length is not None
        self._raw = self._head.length - self._received
        self._large = False
        if self._raw:
            self._parser = None

    def _pass_on(self, data: bytes) -> None:
        if len(data) > self._raw:
            self.keep_alive = False
            data = data[: self._raw]
        self._raw -= len(data)
        self._received += len(data)
        self._events.on_data(data)
        self.done = not self._raw

    def finish(self) -> None:
        """The connection is at its end; raises FetchError if the response is not."""
        if self._head is None:
            where = "amid the header" if self.started else "before any answer"
            raise ConnectionLost(f"the connection was closed {where}")
        if not self._ends_with_connection:
            length = self._head.length
            wanted = "" if length is None else f" of {length}"
            raise TruncatedBody(f"the connection was closed after {self._received}{wanted} bytes")
        self.done, self.keep_alive = True, False

    def _refused(self, error: Exception) -> None:
        cause = error.__context__ if isinstance(error, HttpParserCallbackError) else None
        self._parser = None
        if isinstance(cause, _Stop):
            return
        self.keep_alive = False
        if self.done:
            return  # the response was right; what came after it is nobody's
        if isinstance(error, HttpParserUpgrade):
            raise BadResponse("the server switched protocols unasked")
        if cause is not None:
            raise cause
        if self._pieces is not None and str(error) in DOUBTS:
            self._doubtful = DoubtfulHead(self._pieces, error)
            self._reconsider(self._doubtful)
            return
        raise BadResponse(f"not HTTP as it should be: {error}")

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """Start a header: of an interim response, or the final one."""
        if self.done:
            raise BadResponse("an answer that nobody asked for")
        self._reason = b""
        self._lines: list[tuple[bytes, bytes]] = []

    def on_status(self, reason: bytes) -> None:
        """Take a piece of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header or trailer line."""
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide what the header means for the body."""
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if self._unread > self._limits.size:
            self._check_size()
        if len(self._lines) > self._limits.lines:
            raise HeadersTooLarge(f"more than {self._limits.lines} header lines")
        if status < _FINAL:
            if status < _INTERIM:
                raise BadResponse(f"{status} is not a status")
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
        self._events.on_head(head)
        if self._bodiless or (self._connects and status in _OK_CONNECT):
            self.done = True
            raise _Stop

    def on_body(self, data: bytes) -> None:
        """Pass on a part of the body."""
        self._unread = 0
        self._received += len(data)
        self._events.on_data(data)

    def on_message_complete(self) -> None:
        """Note the end; whoever feeds looks at `done`, once it is known what came after."""
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
                    value = value.strip().lower()  # noqa: PLW2901 # the same value, read
                    head.encoding = value if not head.encoding else head.encoding + b"," + value
        if codings and codings != b"chunked":
            raise BadResponse(f"transfer coding {codings.decode('latin-1')!r} was not asked for")
        if self._bodiless or head.status in _BODILESS:
            head.length = 0
        elif length is not None:
            head.length = int(length)
            self._large = head.length > LARGE
        else:
            self._ends_with_connection = not codings

    def _check_size(self) -> None:
        size = sum(len(name) + len(value) + 4 for name, value in self._lines)
        if size > self._limits.size:
            raise HeadersTooLarge(f"more than {self._limits.size} bytes of header")
