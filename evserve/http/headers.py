"""What is asked and what is answered, as values, and how a request looks on the wire."""

import re
from collections.abc import Iterable, Iterator

from attrs import define, field, frozen

from evserve.http.errors import BadRequest


_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(rb"[^\x00\r\n]*")
IDEMPOTENT = frozenset([b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])


@frozen
class Headers:
    """Header lines in the order sent, names in the case sent."""

    lines: tuple[tuple[bytes, bytes], ...] | list[tuple[bytes, bytes]] = ()

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.lines)

    def all(self, name: bytes) -> list[bytes]:
        """Return every value of the header `name`, which is given in lower case."""
        return [value for key, value in self.lines if key.lower() == name]

    def get(self, name: bytes) -> bytes | None:
        """Return the values of `name` as one, joined by commas (RFC 9110, section 5.3)."""
        values = self.all(name)
        return b", ".join(values) if values else None

    def __contains__(self, name: object) -> bool:
        return any(key.lower() == name for key, _ in self.lines)

    def without(self, *names: bytes) -> "Headers":
        """Return these headers less those in `names`, given in lower case."""
        return Headers([line for line in self.lines if line[0].lower() not in names])

    def plus(self, *lines: tuple[bytes, bytes]) -> "Headers":
        """Return these headers and `lines` after them."""
        return Headers([*self.lines, *lines])


@define(eq=False)
class Head:
    """A response without its body; raw enough to write the response down again (WARC)."""

    status: int
    reason: bytes
    version: str  # "1.1"
    headers: Headers
    length: int | None  # of the body on the wire; None if only its end will tell
    encoding: bytes | None  # Content-Encoding, in lower case
    trailers: Headers = field(factory=Headers)  # complete once the body is


def check_headers(lines: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise BadRequest for a header that could smuggle another one in."""
    for name, value in lines:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequest(f"header {name!r}: {value!r} cannot be sent")


def check_method(method: bytes) -> None:
    """Raise BadRequest unless `method` is a token."""
    if not _TOKEN.fullmatch(method):
        raise BadRequest(f"{method!r} is not a method")


def request_bytes(method: bytes, target: str, lines: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the request's head, which was checked before."""
    parts = [method, b" ", target.encode("ascii"), b" HTTP/1.1\r\n"]
    for name, value in lines:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
