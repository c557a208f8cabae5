"""Responses that break RFC 9112, and are understood all the same.

curl, wget and browsers accept much that the RFC forbids servers to send. What all of them accept
is accepted here. Another reader could see the end of such a response elsewhere, so its connection
carries no other. docs/fetch.md lists what is refused although some of them accept it.
"""

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

from evserve.http.decoding import content_codings
from evserve.http.errors import (
    BadResponse,
    ConnectionLost,
    FetchError,
    HeadersTooLarge,
    TruncatedBody,
    shorten,
)
from evserve.http.headers import Head, Headers


if TYPE_CHECKING:
    from evserve.http.parser import HeaderLimits, ResponseListener


BODILESS = frozenset([204, 304])
FINAL = 200  # lower statuses announce another response
CONNECT_OK = range(200, 300)
_SWITCHING_PROTOCOLS = 101
_MAX_LENGTH = 2**63 - 1  # bytes; no file system has larger files
_LENGTH_DIGITS = 20  # enough to tell that a number is larger
_CHUNK_DIGITS = 16

_BEGINNING = b"HTTP/"
_STATUS_LINE = re.compile(
    rb"HTTP/([1-9])(?:\.([0-9]))?[ \t]+([1-9][0-9]{2})(?![0-9])[ \t]*(.*)",
    re.IGNORECASE | re.DOTALL,
)
_END = re.compile(rb"\n\r?\n")  # of a head
_END_OVERLAP = 2  # bytes of an end that may be in an earlier piece
_FOLD = re.compile(rb"\n[ \t]+")
_IN_NAMES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]+)[ \t]*(?:;.*)?", re.DOTALL)
_NO_CODING = frozenset([b"", b"identity", b"none"])


class _Part(Enum):
    """What comes next in a response."""

    HEAD = auto()
    BODY = auto()  # `_left` bytes, without chunks
    REST = auto()  # all until the connection ends
    CHUNK_SIZE = auto()
    CHUNK = auto()  # `_left` bytes
    CHUNK_END = auto()
    TRAILERS = auto()


class LenientParser:
    """Reads one response; nothing that follows it on the connection means anything.

    head, received: what the listener has got already, if another parser has given up after that.
    """

    def __init__(
        self,
        limits: "HeaderLimits",
        method: bytes,
        listener: "ResponseListener",
        head: Head | None = None,
        received: int = 0,
    ) -> None:
        self._limits = limits
        self._method = method
        self._listener = listener
        self._known_head = head
        self._skipped = received
        self._head: Head | None = None
        self._part = _Part.HEAD
        self._buffer = bytearray()  # the beginning of a head or line
        self._trailers: list[bytes] = []
        self._overhead = 0  # bytes since the last ones of a body
        self._left = self._received = 0  # bytes of a body
        self.done = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection. Raises FetchError for an invalid response."""
        if self._part is _Part.HEAD:
            data = self._read_head(data)
        if self._part is _Part.BODY:
            self._read_body(data)
        elif self._part is _Part.REST:
            self._deliver(data)
        elif self._part is not _Part.HEAD:
            self._read_chunks(data)

    def finish(self) -> None:
        """Take the end of the connection. Raises FetchError if the response is not complete."""
        if self._part is not _Part.REST:
            raise early_end(self._head, self._received)
        self.done = True

    def _read_head(self, data: bytes) -> bytes:
        """Read heads up to the final one; return the bytes after it."""
        searched = max(0, len(self._buffer) - _END_OVERLAP)
        self._buffer += data
        while self._head is None:
            if self._buffer.startswith((b"\r", b"\n")):  # left from an earlier body
                size = len(self._buffer)
                self._buffer = self._buffer.lstrip(b"\r\n")
                self._overhead += size - len(self._buffer)
                searched = 0
            end = _END.search(self._buffer, searched)
            if end is None:
                if not _BEGINNING.startswith(self._buffer[: len(_BEGINNING)].upper()):
                    raise invalid("status line", self._buffer)
                self._check_overhead(len(self._buffer))
                return b""
            raw = bytes(self._buffer[: end.start()])
            self._overhead += end.end()
            self._check_overhead(0)
            del self._buffer[: end.end()]
            searched = 0
            self._take_head(raw)
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._overhead = 0
        return rest

    def _take_head(self, raw: bytes) -> None:
        """Take a head without the end of its last line.

        A carriage return within a line is a blank (RFC 9112, section 2.2), and folded lines are
        one (section 5.2).
        """
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b" ")
        first, _, rest = raw.partition(b"\n")
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise invalid("status line", first)
        major, minor, code, reason = match.groups()
        # What comes before the first line feed here would continue the status line.
        _, _, rest = _FOLD.sub(b" ", b"\n" + rest).partition(b"\n")
        lines = _split_lines(rest)
        self._limits.check_lines(len(lines))
        status = int(code)
        if status == _SWITCHING_PROTOCOLS:
            raise BadResponse("the server switched protocols without being asked")
        if status < FINAL:
            return
        version = f"{major.decode()}.{'0' if minor is None else minor.decode()}"
        head = self._head = Head(status, reason.rstrip(), version, Headers(lines), None, None)
        fault = self._frame(head)
        if self._known_head is None:
            self._listener.on_head(head)
        else:
            self._head = self._known_head
        if fault is not None:
            raise fault

    def _frame(self, head: Head) -> BadResponse | None:
        """Find out how the body ends (RFC 9112, section 6.3); return what is wrong with it."""
        named = head.headers.get(b"content-encoding") or b""
        head.encoding = b",".join(content_codings(named)) or None
        self._part = _Part.BODY
        is_tunnel = self._method == b"CONNECT" and head.status in CONNECT_OK
        if self._method == b"HEAD" or head.status in BODILESS or is_tunnel:
            head.length = 0
            return None
        codings = set(_elements(head.headers, b"transfer-encoding")) - _NO_CODING
        lengths = _elements(head.headers, b"content-length")
        if codings:
            self._part = _Part.CHUNK_SIZE
            unknown = b", ".join(codings - {b"chunked"})
            return invalid("transfer coding", unknown) if unknown else None
        if not lengths:
            self._part = _Part.REST
            return None
        head.length = _parse_length(lengths)
        if head.length is None or head.length > _MAX_LENGTH:
            return invalid("Content-Length", b", ".join(lengths))
        self._left = head.length
        return None

    def _read_body(self, data: bytes) -> None:
        data = data[: self._left]
        self._left -= len(data)
        self._deliver(data)
        self.done = not self._left

    def _read_chunks(self, data: bytes) -> None:
        """Read chunks (RFC 9112, section 7.1), whose lines may end with a line feed alone."""
        start = 0
        while start < len(data) and not self.done:
            if self._part is _Part.CHUNK:
                piece = data[start : start + self._left]
                start += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._part = _Part.CHUNK_END
                self._overhead = 0
                self._deliver(piece)
                continue
            end = data.find(b"\n", start)
            if end < 0:
                self._buffer += data[start:]
                self._check_overhead(len(self._buffer))
                return
            line = bytes(self._buffer) + data[start:end]
            self._buffer.clear()
            start = end + 1
            self._overhead += len(line) + 1
            self._check_overhead(0)
            self._take_line(line.rstrip(b"\r"))

    def _take_line(self, line: bytes) -> None:
        """Take a line before, between or after chunks, without its end."""
        if self._part is _Part.CHUNK_SIZE:
            match = _CHUNK_SIZE.fullmatch(line)
            digits = match and match[1].lstrip(b"0")
            if digits is None or len(digits) > _CHUNK_DIGITS:
                raise invalid("chunk size", line)
            self._left = int(digits or b"0", 16)
            self._part = _Part.CHUNK if self._left else _Part.TRAILERS
        elif self._part is _Part.CHUNK_END:
            if line:
                raise BadResponse("a chunk is longer than its size")
            self._part = _Part.CHUNK_SIZE
        elif line:
            self._trailers.append(line)
        else:
            assert self._head is not None
            trailers = _FOLD.sub(b" ", b"\n".join(self._trailers))
            self._head.trailers = Headers(_split_lines(trailers))
            self.done = True

    def _deliver(self, data: bytes) -> None:
        self._received += len(data)
        skipped = min(self._skipped, len(data))
        self._skipped -= skipped
        if skipped < len(data):
            self._listener.on_data(data[skipped:])

    def _check_overhead(self, more: int) -> None:
        if self._overhead + more > self._limits.size:
            raise HeadersTooLarge(f"more than {self._limits.size} bytes without a body")


def _split_lines(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return the lines that have a valid name. Blanks before the colon do not count."""
    if b"\0" in raw:
        raise BadResponse("a NUL in the header")
    lines = []
    for line in raw.split(b"\n"):
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        if colon and name and not name.translate(None, _IN_NAMES):
            lines.append((name, value.strip(b" \t")))
    return lines


def _elements(headers: Headers, name: bytes) -> list[bytes]:
    """Return the elements of a list (RFC 9110, section 5.6.1), in lower case."""
    values = [element for value in headers.all(name) for element in value.lower().split(b",")]
    return [value.strip(b" \t") for value in values]


def _parse_length(values: list[bytes]) -> int | None:
    """Return the number that all values of Content-Length name, None if there is none."""
    numbers = {value.lstrip(b"0") or b"0" for value in values if value}
    if len(numbers) != 1:
        return None
    [number] = numbers
    return int(number[:_LENGTH_DIGITS]) if number.isdigit() else None


def early_end(head: Head | None, received: int) -> FetchError:
    """Return the error for a connection that ends after `received` bytes of a body."""
    if head is None:
        return ConnectionLost("the connection was closed within the header")
    total = "" if head.length is None else f" of {head.length}"
    return TruncatedBody(f"the connection was closed after {received}{total} bytes")


def invalid(what: str, text: bytes | bytearray) -> BadResponse:
    """Return the error for a part of a response that means nothing."""
    return BadResponse(f"invalid HTTP: {what} {shorten(text.decode('latin-1'))!r}")
