"""Where URLs come from: a list, the lines of a file or a stream, sitemaps.

A source returns a batch at a time, so that a million URLs need no more memory than a few.
"""

import codecs
import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.fetch.errors import SitemapFailed
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.interfaces import Source
from evserve.fetch.job import Job
from evserve.fetch.result import Result
from evserve.fetch.scheduler import DuplicateFilter
from evserve.http.decoding import Coding, make_coding
from evserve.http.errors import BadURL, CorruptBody
from evserve.http.headers import Head
from evserve.http.request import Request
from evserve.http.url import MAX_LENGTH, parse_url


_BATCH = 500
_READ_SIZE = 64 * 1024
# Longer lines are cut to a length that is still too long for a URL: such a line is one error, and
# neither many URLs nor a part of one.
_TOO_LONG = MAX_LENGTH + 1
_BOM = codecs.BOM_UTF8  # some editors write one at the beginning of a file


@define(eq=False)
class LineSplitter:
    """Splits bytes into lines, with the line ends of any system; skips blanks and comments.

    Bytes that are not UTF-8 are kept, as surrogates.
    """

    _rest: bytes = field(default=b"", init=False)
    _is_first: bool = field(default=True, init=False)

    def feed(self, data: bytes) -> list[str]:
        """Return the URLs of the lines that `data` completes."""
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if self._is_first and lines:
            lines[0] = lines[0].removeprefix(_BOM)
            self._is_first = False
        self._rest = rest[: 4 * _TOO_LONG]  # a character has four bytes at most
        texts = (line.decode("utf-8", "surrogateescape")[:_TOO_LONG].strip() for line in lines)
        return [text for text in texts if text and not text.startswith("#")]

    def finish(self) -> list[str]:
        """Return the URL of the last line, if that has no line end."""
        return self.feed(b"\n")


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


_SUCCESS = range(200, 300)
_GZIP = b"\x1f\x8b"
_TEXT = b"http"  # how the text form begins, and XML does not
_ROOTS = "urlset", "sitemapindex"
_MAX_BYTES = 100 * 1024 * 1024  # decompressed; twice what sitemaps.org allows
_NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"
_MAX_LOC = 8192  # characters


@define(eq=False)
class SitemapSource:
    """The URLs of a sitemap, or of all sitemaps of an index, one sitemap at a time.

    failed: gets the result of a sitemap that cannot be read.
    """

    _fetcher: Fetcher
    _waiting: list[str]  # sitemaps; the next one is last
    _failed: Callable[[Result], object]
    _duplicates: DuplicateFilter = field(factory=DuplicateFilter)

    async def next_batch(self) -> list[str]:
        while self._waiting:
            url = self._waiting.pop()
            if self._duplicates.add(url):
                pages = await self._read(url)
                if pages:
                    return pages
        return []

    async def _read(self, url: str) -> list[str]:
        try:
            request = Request(parse_url(url), follow=False)
        except BadURL as error:
            self._failed(Result.not_sent(url, error))
            return []
        sink = _SitemapSink()
        done: Deferred[Result] = Deferred()
        # Sites publish sitemaps for robots, so robots.txt does not apply.
        self._fetcher.submit(Job(url, request, done.callback, (sink,), obeys_robots=False))
        result = await done
        if result.error is not None:
            self._failed(result)
            return []
        self._waiting += reversed(sink.parser.sitemaps)
        return sink.parser.pages


@define(eq=False)
class SitemapParser:
    """Parses sitemaps (sitemaps.org 0.9) and indexes of them, a piece at a time.

    They are XML, or text with a URL a line; each plain or gzipped. Collects `pages` and, from an
    index, `sitemaps`. `feed` and `finish` raise SitemapFailed.
    """

    pages: list[str] = field(factory=list)
    sitemaps: list[str] = field(factory=list)
    _start: bytes | None = b""  # until it is long enough to recognize gzip
    _gzip: Coding | None = None
    _head: bytes | None = b""  # until it is long enough to recognize text
    _splitter: LineSplitter | None = None  # for text
    _parser: expat.XMLParserType = field(init=False)
    _size: int = 0
    _namespace: str = ""
    _stack: list[str] = field(factory=list)
    _text: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        parser = self._parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        parser.CharacterDataHandler = self._on_text
        parser.EntityDeclHandler = self._on_entity

    def feed(self, data: bytes) -> None:
        """Parse a piece."""
        if self._start is not None:
            self._start += data
            if len(self._start) < len(_GZIP):
                return
            data, self._start = self._start, None
            if data.startswith(_GZIP):
                self._gzip = make_coding("gzip")
        if self._gzip is None:
            self._take(data)
            return
        try:
            for piece in self._gzip.feed(data):
                self._take(piece)
        except CorruptBody as error:
            raise SitemapFailed(str(error)) from None

    def finish(self) -> None:
        """End the sitemap."""
        try:
            if self._gzip is not None:
                self._gzip.finish()
        except CorruptBody as error:
            raise SitemapFailed(str(error)) from None
        self._parse(self._head or b"", final=True)

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > _MAX_BYTES:
            raise SitemapFailed(f"longer than {_MAX_BYTES} bytes")
        if self._head is not None:
            self._head = (self._head + data).removeprefix(_BOM).lstrip()
            if len(self._head) < len(_TEXT):
                return
            data, self._head = self._head, None
            if data[: len(_TEXT)].lower() == _TEXT:
                self._splitter = LineSplitter()
        self._parse(data)

    def _parse(self, data: bytes, *, final: bool = False) -> None:
        if self._splitter is not None:
            self.pages += self._splitter.finish() if final else self._splitter.feed(data)
            return
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            raise SitemapFailed(f"neither XML ({error}) nor a list of URLs") from None

    def _on_entity(self, *declaration: object) -> None:
        raise SitemapFailed("it declares entities, which no sitemap needs")

    def _on_start(self, name: str, attributes: object) -> None:
        namespace, _, local = name.rpartition(" ")
        if not self._stack:
            if local not in _ROOTS:
                raise SitemapFailed(
                    f"it begins with <{local}>, not with <urlset> or <sitemapindex>"
                )
            self._namespace = namespace
        # Many sites omit or misspell the namespace. Elements of others, such as the one for
        # images, keep theirs in the name, because they have a <loc> too.
        self._stack.append(local if namespace in ("", self._namespace, _NAMESPACE) else name)
        self._text.clear()

    def _on_text(self, text: str) -> None:
        if self._stack[-1] == "loc" and len(self._text) < _MAX_LOC:
            self._text.append(text)

    def _on_end(self, name: str) -> None:
        path = self._stack[-2:]
        del self._stack[-1]
        url = "".join(self._text).strip()
        self._text.clear()
        if url and path == ["url", "loc"]:
            self.pages.append(url)
        elif url and path == ["sitemap", "loc"]:
            self.sitemaps.append(url)


@define(eq=False)
class _SitemapSink:
    """Feeds a body to a parser: a Sink and its ResponseWriter."""

    parser: SitemapParser = field(factory=SitemapParser)

    def prepare(self, request: Request, url: str) -> Request:
        return request

    def open(self, job: Job, head: Head) -> "_SitemapSink | None":
        self.parser = SitemapParser()
        return self if head.status in _SUCCESS else None

    def write(self, data: bytes) -> None:
        self.parser.feed(data)

    def close(self, error: Exception | None) -> None:
        if error is None:
            self.parser.finish()
