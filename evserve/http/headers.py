"""Header lines, and the head of a response."""

import re
from collections.abc import Iterable, Iterator
from typing import overload

from attrs import define, frozen

from evserve.http.errors import BadRequest


_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(rb"[^\x00\r\n]*")


@frozen
class Headers:
    """Header lines in the order and with the names that were sent."""

    lines: tuple[tuple[bytes, bytes], ...] | list[tuple[bytes, bytes]] = ()

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.lines)

    def all(self, name: bytes) -> list[bytes]:
        """Return every value of the header `name`, in any case."""
        name = name.lower()
        return [value for key, value in self.lines if key.lower() == name]

    @overload
    def get(self, name: bytes, default: None = None) -> bytes | None: ...
    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...

    def get(self, name: bytes | str, default: str | None = None) -> bytes | str | None:
        """Return the values of `name` joined by commas (RFC 9110, section 5.3), or `default`.

        A name that is text gives text: each byte is a character (Latin-1).
        """
        if isinstance(name, str):
            found = self.get(name.encode("latin-1", "replace"))
            return default if found is None else found.decode("latin-1")
        values = self.all(name)
        return b", ".join(values) if values else None

    def __contains__(self, name: bytes | str) -> bool:
        return self.get(name) is not None

    def without(self, *names: bytes) -> "Headers":
        """Return a copy without the headers `names` (in lower case)."""
        return Headers([line for line in self.lines if line[0].lower() not in names])

    def plus(self, *lines: tuple[bytes, bytes]) -> "Headers":
        """Return a copy with `lines` at the end."""
        return Headers([*self.lines, *lines])


NO_HEADERS: Headers = Headers()


@define(eq=False)
class Head:
    """The status line and headers of a response, complete enough for a WARC record."""

    status: int
    reason: bytes
    version: str  # "1.1"
    headers: Headers
    length: int | None  # bytes of the body on the wire; None if only its end tells
    encoding: bytes | None  # the codings in Content-Encoding, in lower case; None without any
    trailers: Headers = NO_HEADERS  # known after the body


def check_headers(lines: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise BadRequest for a line that could smuggle in another one."""
    for name, value in lines:
        if not _TOKEN.fullmatch(name):
            raise BadRequest(f"header {name!r} cannot be sent: that is not a name")
        if not _VALUE.fullmatch(value):  # which may be secret, so the message does not quote it
            raise BadRequest(f"header {name!r} cannot be sent: its value has a line end or a NUL")


def check_method(method: bytes) -> None:
    """Raise BadRequest unless `method` is a token."""
    if not _TOKEN.fullmatch(method):
        raise BadRequest(f"invalid method {method!r}")


def request_bytes(method: bytes, target: str, lines: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a request as it is sent; the caller has checked its parts."""
    parts = [method, b" ", target.encode("ascii"), b" HTTP/1.1\r\n"]
    for name, value in lines:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
