"""Where URLs come from: a list, the lines of a file or a stream; sitemaps.py has sitemaps.

A source returns a batch at a time, so that a million URLs need no more memory than a few.
"""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.fetch.interfaces import Source
from evserve.fetch.text import MarkedDecoder
from evserve.http.url import MAX_LENGTH


_BATCH = 500
_READ_SIZE = 64 * 1024
# Longer lines are cut to a length that is still too long for a URL: such a line is one error, and
# neither many URLs nor a part of one.
_TOO_LONG = MAX_LENGTH + 1


@define(eq=False)
class LineSplitter:
    """Splits bytes into lines, with the line ends of any system; skips blanks and comments.

    They are UTF-8, or UTF-16 with a byte-order mark. Bytes that are not UTF-8 are kept, as
    surrogates.
    """

    _decoder: MarkedDecoder = field(factory=MarkedDecoder, init=False)
    _rest: str = field(default="", init=False)

    def feed(self, data: bytes) -> list[str]:
        """Return the URLs of the lines that `data` completes."""
        return self.split(self._decoder.decode(data))

    def split(self, text: str) -> list[str]:
        """Return the URLs of the lines that `text` completes."""
        *lines, rest = (self._rest + text).replace("\r", "\n").split("\n")
        self._rest = rest[:_TOO_LONG]
        urls = (line[:_TOO_LONG].strip() for line in lines)
        return [url for url in urls if url and not url.startswith("#")]

    def finish(self) -> list[str]:
        """Return the URL of the last line, if that has no line end."""
        return self.split(self._decoder.decode(b"", final=True) + "\n")


@define(eq=False)
class ListSource:
    """URLs in memory."""

    _urls: list[str]

    async def next_batch(self) -> list[str]:
        urls, self._urls = self._urls, []
        return urls


@define(eq=False)
class FileSource:
    """The lines of a file, which is read no further than needed. Raises OSError."""

    _path: Path
    _urls: Iterator[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._urls = _read_urls(self._path.open("rb"))

    async def next_batch(self) -> list[str]:
        return list(islice(self._urls, _BATCH))


def _read_urls(file: BinaryIO) -> Iterator[str]:
    splitter = LineSplitter()
    while data := file.read(_READ_SIZE):
        yield from splitter.feed(data)
    yield from splitter.finish()


@implementer(IReadDescriptor)
@define(eq=False)
class StreamSource:
    """The lines that arrive at a descriptor, such as standard input.

    The descriptor keeps its flags: O_NONBLOCK on a terminal would apply to our own output too.
    """

    _reactor: Any
    _descriptor: int
    _name: str  # for errors
    _splitter: LineSplitter = field(factory=LineSplitter, init=False)
    _error: OSError | None = field(default=None, init=False)
    _at_end: bool = field(default=False, init=False)
    _ready: list[str] = field(factory=list, init=False)
    _waiting: "Deferred[None] | None" = field(default=None, init=False)

    async def next_batch(self) -> list[str]:
        while not self._ready and not self._at_end:
            self._waiting = Deferred()
            self._reactor.addReader(self)
            try:
                await self._waiting
            finally:
                self._waiting = None
                self._reactor.removeReader(self)
        if self._error is not None and not self._ready:
            raise self._error
        ready, self._ready = self._ready, []
        return ready

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "URLs"

    def doRead(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:  # another process that shares the descriptor read first
            return
        except OSError as error:
            error.filename = self._name
            self._error, data = error, b""
        self._take(data)

    def connectionLost(self, reason: Failure) -> None:
        self._take(b"")

    def _take(self, data: bytes) -> None:
        """Split `data` into lines; b"" is the end."""
        self._at_end = not data
        self._ready += self._splitter.feed(data) if data else self._splitter.finish()
        if (self._ready or self._at_end) and self._waiting is not None:
            self._waiting.callback(None)


def open_lines(path: Path, reactor: Any) -> Source:
    """Return the source of a file's lines, or a pipe's or a device's. Raises OSError.

    It does not wait for a writer of a named pipe: until there is one, no lines arrive.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return StreamSource(reactor, descriptor, str(path))
    os.close(descriptor)
    return FileSource(path)
