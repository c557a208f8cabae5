"""URLs as lines of text, a batch at a time: a million of them need no more memory than a few."""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TextIO

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.fetch.sources.cutter import ENCODING, TOO_LONG, Cutter, urls_in


_BATCH = 500
_CHUNK = 64 * 1024


class Source(Protocol):
    """Something that has URLs."""

    async def batch(self) -> list[str]:
        """Return the next URLs; none when there are no more. Raises OSError."""
        ...


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
        self._urls = urls_in(_lines_of(self._path.open(encoding="utf-8-sig", errors=ENCODING[1])))

    async def batch(self) -> list[str]:
        """See Source."""
        return list(islice(self._urls, _BATCH))


def open_lines(path: Path, reactor: Any) -> Source:
    """Return the lines of a file; of a pipe or a device as they arrive. Raises OSError.

    Nothing waits here for somebody to write to a named pipe: that is one more pause of it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return StreamSource(reactor, descriptor, str(path))
    os.close(descriptor)
    return FileSource(path)


def _lines_of(file: TextIO) -> Iterator[str]:
    while line := file.readline(TOO_LONG):
        yield line
        while len(line) == TOO_LONG and not line.endswith("\n"):
            line = file.readline(TOO_LONG)


@implementer(IReadDescriptor)
@define(eq=False)
class StreamSource:
    """The lines that arrive at a descriptor, such as standard input, whenever that is.

    The descriptor keeps its flags: O_NONBLOCK on a terminal would be on our own output too.
    """

    _reactor: Any
    _descriptor: int
    _name: str  # for errors
    _cutter: Cutter = field(factory=Cutter, init=False)
    _trouble: OSError | None = field(default=None, init=False)
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
        if self._trouble is not None and not self._ready:
            raise self._trouble
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
        except BlockingIOError:  # whoever shares it was faster
            return
        except OSError as error:
            error.filename = self._name
            self._trouble, data = error, b""
        self._take(data)

    def connectionLost(self, reason: Failure) -> None:
        """See IReadDescriptor."""
        self._take(b"")

    def _take(self, data: bytes) -> None:
        """Cut what arrived into lines; nothing means that nothing more will."""
        self._is_over = not data
        self._ready += self._cutter.feed(data) if data else self._cutter.finish()
        if (self._ready or self._is_over) and self._wanted is not None:
            self._wanted.callback(None)
