"""The head of a request, from its bytes: llhttp finds the lines, this module refuses the rest.

It is as strict as `twisted.web.http.HTTPChannel` or stricter: `BadHead` for whatever RFC 9112
calls invalid and two servers might read in two ways.
"""

import re
from functools import lru_cache, partial
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.web.http_headers import Headers


Fields = dict[bytes, list[bytes]]  # values by canonical name, in the order of arrival

# Those of a line of blanks stay: without them it would be the end of the head.
_TRAILING_BLANKS = re.compile(rb"(?<=[^\r\n \t])[ \t]+(?=\r\n)")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# llhttp knows a list of methods, some with rules of their own; HTTP allows any token. Others than
# these are parsed as GET, which changes nothing of the rest.
_METHODS = frozenset(
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"]
)
_VERSIONS = frozenset([b"HTTP/1.1", b"HTTP/1.0"])
_FRAMING = frozenset([b"Content-Length", b"Transfer-Encoding"])
_CHUNKED = [b"chunked"]
_CACHED_NAMES = 1000
_CACHED_LENGTH = 64  # bytes


class BadHead(ValueError):  # noqa: N818 # an answer of 400, not a fault
    """A head that gets the answer 400."""


class CanonicalNames(dict[bytes, bytes]):
    """The names of `Headers` for those that arrive. Bounded, since clients choose them."""

    def __missing__(self, name: bytes) -> bytes:
        headers = Headers()
        headers.addRawHeader(name, b"")
        ((canonical, _),) = headers.getAllRawHeaders()
        if len(name) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_NAMES:
                self.clear()  # one client's names must not slow down those of all others for good
            self[name] = canonical
        return canonical


canonical_names = CanonicalNames()


def split_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the method, the target and the version. Raises BadHead."""
    try:
        method, target, version = line.split(b" ")
    except ValueError:
        raise BadHead("not a request line") from None
    if version not in _VERSIONS:
        raise BadHead("unknown version")
    if method not in _METHODS and _TOKEN.fullmatch(method) is None:
        raise BadHead("invalid method")
    return method, target, version


class HeadParser:
    """Reads heads, one after another and each complete. One is enough for any number of users."""

    def __init__(self) -> None:
        self._fields: Fields = {}
        self._expected: list[None] = []  # an end of a message
        self.on_message_complete = self._expected.clear  # called by llhttp
        self._parser: Any = HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line; called by llhttp."""
        name = canonical_names[name]
        fields = self._fields
        if name in fields:
            fields[name].append(value)
        else:
            fields[name] = [value]

    def parse(self, head: bytes) -> tuple[bytes, bytes, bytes, Fields, int | None]:
        """Return the method, target, version and header of a head, and the length of the body.

        head: from the method up to the empty line; one empty line may stand before it, as some
        clients send one after a body. The length is in bytes, or None for a body in chunks.
        Raises BadHead.
        """
        end = head.index(b"\r\n")
        if not end:
            head = head[2:]
            end = head.index(b"\r\n")
        method, target, version = split_request_line(head[:end])
        if method not in _METHODS:
            head = b"GET" + head[len(method) :]
        if head.find(b" \r\n") != -1 or head.find(b"\t\r\n") != -1:
            head = _TRAILING_BLANKS.sub(b"", head)
        fields = self._fields = {}
        self._expected.append(None)
        try:
            self._parser.feed_data(head)
        except (HttpParserError, HttpParserUpgrade):
            self._feed_again(head)
        if self._expected:  # llhttp waits for a body
            self._expected.clear()
            self._parser = HttpRequestParser(self)
        if len(fields.get(b"Host", ())) > 1:
            raise BadHead("more than one Host")
        length = 0 if _FRAMING.isdisjoint(fields) else _body_length(version, fields)
        return method, target, version, fields, length

    def _feed_again(self, head: bytes) -> None:
        """Give a head to a new parser: an earlier one may have been the last of a connection."""
        self._fields.clear()
        parser = HttpRequestParser(self)
        self._parser = HttpRequestParser(self)  # for the next head
        try:
            parser.feed_data(head)
        except HttpParserUpgrade:
            pass
        except HttpParserError as error:
            raise BadHead(str(error)) from None


def _body_length(version: bytes, fields: Fields) -> int | None:
    # llhttp refuses some of these as well.
    codings, lengths = fields.get(b"Transfer-Encoding"), fields.get(b"Content-Length")
    if codings:
        if lengths or version == b"HTTP/1.0" or [coding.lower() for coding in codings] != _CHUNKED:
            raise BadHead("an invalid Transfer-Encoding")
        return None
    if lengths:
        if len(lengths) > 1 or not lengths[0].isdigit():
            raise BadHead("an invalid Content-Length")
        return int(lengths[0])
    return 0


@lru_cache(maxsize=256)
def status_line(version: bytes, code: int, reason: bytes) -> bytes:
    """Return the first line of an answer. Line breaks in the reason would end it: blanks."""
    return b"%b %d %b\r\n" % (version, code, b" ".join(reason.splitlines()))


def write_head(parts: list[bytes], fields: Fields) -> None:
    """Add the lines of a header, from `Headers` (which has no line breaks), and the empty line."""
    for name, values in fields.items():
        for value in values:
            parts += name, b": ", value, b"\r\n"
    parts.append(b"\r\n")


_new_headers = partial(Headers.__new__, Headers)


def headers_of(fields: Fields) -> Headers:
    """Return `Headers` of fields with canonical names and without line breaks."""
    headers = _new_headers()
    headers._rawHeaders = fields  # noqa: SLF001 - its API would check and copy each again
    return headers


def _check_headers() -> None:
    headers = headers_of({b"A-B": [b"c", b"d"]})
    if list(headers.getAllRawHeaders()) != [(b"A-B", [b"c", b"d"])]:
        raise ImportError("evserve.web does not know the Headers of this version of Twisted")


_check_headers()
