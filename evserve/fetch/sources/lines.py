"""URLs as lines of text, a batch at a time: a million of them need no more memory than a few."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


_BATCH = 500
_CHUNK = 64 * 1024
_LONGEST = 64 * 1024  # a line beyond this is no URL


class Source(Protocol):
    """Something that has URLs."""

    async def batch(self) -> list[str]:
        """Return the next URLs; none when there are no more. Raises OSError."""
        ...


def urls_in(lines: Iterable[str]) -> Iterator[str]:
    """Yield what is not blank and no comment."""
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            yield text


@define(eq=False)
class ListSource:
    """URLs that are at hand."""

    _urls: list[str]

    async def batch(self) -> list[str]:
        """See Source."""
        urls, self._urls = self._urls, []
        return urls


@define(eq=False)
class FileSource:
    """The lines of a file, which is read only as far as they are wanted. Raises OSError."""

    _path: Path
    _urls: Iterator[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._urls = urls_in(self._path.open(encoding="utf-8", errors="replace"))

    async def batch(self) -> list[str]:
        """See Source."""
        return list(islice(self._urls, _BATCH))


@implementer(IReadDescriptor)
@define(eq=False)
class StreamSource:
    """The lines that arrive at a descriptor, such as standard input, whenever that is.

    The descriptor keeps its flags: O_NONBLOCK on a terminal would be on our own output too.
    """

    _reactor: Any
    _descriptor: int
    _rest: bytes = field(default=b"", init=False)
    _is_over: bool = field(default=False, init=False)
    _ready: list[str] = field(factory=list, init=False)
    _wanted: "Deferred[None] | None" = field(default=None, init=False)

    async def batch(self) -> list[str]:
        """See Source."""
        while not self._ready and not self._is_over:
            self._wanted = Deferred()
            self._reactor.addReader(self)
            try:
                await self._wanted
            finally:
                self._wanted = None
                self._reactor.removeReader(self)
        ready, self._ready = self._ready, []
        return ready

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """See IReadDescriptor."""
        return "URLs"

    def doRead(self) -> None:
        """See IReadDescriptor."""
        try:
            data = os.read(self._descriptor, _CHUNK)
        except OSError:
            data = b""
        self._take(data)

    def connectionLost(self, reason: Failure) -> None:
        """See IReadDescriptor."""
        self._take(b"")

    def _take(self, data: bytes) -> None:
        """Cut what arrived into lines; nothing means that nothing more will."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data or len(self._rest) > _LONGEST:
            lines.append(self._rest)
            self._rest = b""
        self._is_over = not data
        self._ready += urls_in(line.decode("utf-8", "replace") for line in lines)
        if (self._ready or self._is_over) and self._wanted is not None:
            self._wanted.callback(None)
