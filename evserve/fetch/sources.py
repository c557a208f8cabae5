"""URLs as lines of text, a batch at a time: a million of them need no more memory than a few."""

import codecs
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TextIO
from xml.parsers import expat

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.interfaces import Arrival
from evserve.fetch.job import Job, Result
from evserve.fetch.scheduler import Seen
from evserve.http.codings import Coding, make_coding
from evserve.http.errors import BadURL, CorruptBody, FetchError
from evserve.http.messages import Head
from evserve.http.request import Request
from evserve.http.url import MAX_LENGTH, parse_url


# Lines that are too long are cut, just so that they still are too long for a URL: such a line is
# one error, and neither many URLs nor a part of one. Bytes that are not UTF-8 stay what they are.
TOO_LONG = MAX_LENGTH + 1
ENCODING = "utf-8", "surrogateescape"
MARK = codecs.BOM_UTF8  # what some editors begin a file with


def urls_in(lines: Iterable[str]) -> Iterator[str]:
    """Yield what is not blank and no comment."""
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            yield text


@define(eq=False)
class Cutter:
    """Cuts lines from bytes; they may end as on any system, since blank ones do not count."""

    _rest: bytes = field(default=b"", init=False)
    _is_first: bool = field(default=True, init=False)

    def feed(self, data: bytes) -> list[str]:
        """Return the URLs of the lines that `data` completes."""
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if self._is_first and lines:
            lines[0] = lines[0].removeprefix(MARK)
            self._is_first = False
        self._rest = rest[: 4 * TOO_LONG]  # a character has four bytes at most
        return list(urls_in(line.decode(*ENCODING)[:TOO_LONG] for line in lines))

    def finish(self) -> list[str]:
        """Return the URL of the last line, which needs no end."""
        return self.feed(b"\n")


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


_GZIP = b"\x1f\x8b"
_URL = b"http"  # what the text form begins with, and nothing that is XML
_ROOTS = "urlset", "sitemapindex"
_MAX_BYTES = 100 * 1024 * 1024  # twice what sitemaps.org allows, unpacked
_OFFICIAL = "http://www.sitemaps.org/schemas/sitemap/0.9"
_MAX_LOC = 8192  # characters


class BadSitemap(Exception):  # noqa: N818 - it is the sitemap that is bad
    """What was fetched is no sitemap; the message says why."""


@define(eq=False)
class SitemapParser:
    """Collects `pages`, and `sitemaps` if it is an index; `feed` and `finish` raise BadSitemap."""

    pages: list[str] = field(factory=list)
    sitemaps: list[str] = field(factory=list)
    _start: bytes | None = b""  # as long as it does not tell whether this is gzip
    _gzip: Coding | None = None
    _head: bytes | None = b""  # as long as it does not tell whether this is text
    _cutter: Cutter | None = None  # if it is
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
        """Take a piece."""
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
            raise BadSitemap(str(error)) from None

    def finish(self) -> None:
        """There are no more pieces."""
        try:
            if self._gzip is not None:
                self._gzip.finish()
        except CorruptBody as error:
            raise BadSitemap(str(error)) from None
        self._read(self._head or b"", final=True)

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > _MAX_BYTES:
            raise BadSitemap(f"longer than {_MAX_BYTES} bytes")
        if self._head is not None:
            self._head = (self._head + data).removeprefix(MARK).lstrip()
            if len(self._head) < len(_URL):
                return
            data, self._head = self._head, None
            if data[: len(_URL)].lower() == _URL:
                self._cutter = Cutter()
        self._read(data)

    def _read(self, data: bytes, *, final: bool = False) -> None:
        if self._cutter is not None:
            self.pages += self._cutter.finish() if final else self._cutter.feed(data)
            return
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            raise BadSitemap(f"neither XML ({error}) nor a list of URLs") from None

    def _on_entity(self, *declaration: object) -> None:
        raise BadSitemap("it declares entities, which no sitemap needs")

    def _on_start(self, name: str, attributes: object) -> None:
        namespace, _, local = name.rpartition(" ")
        if not self._stack:
            if local not in _ROOTS:
                raise BadSitemap(f"it begins with <{local}>, not with <urlset> or <sitemapindex>")
            self._namespace = namespace
        # Many sites leave it out or misspell it; others, such as that of images, have a <loc> too.
        self._stack.append(local if namespace in ("", self._namespace, _OFFICIAL) else name)
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


_SUCCESS = range(200, 300)


class SitemapFailed(FetchError):  # noqa: N818 - named as in `errors`: it goes into the row
    """What was fetched is no sitemap."""


@define(eq=False)
class _Reading:
    """A Store and its Copy: feeds a body to a parser."""

    parser: SitemapParser = field(factory=SitemapParser)

    def prepare(self, request: Request, text: str) -> Request:
        return request

    def open(self, arrival: Arrival, head: Head) -> "_Reading | None":
        self.parser = SitemapParser()
        return self if head.status in _SUCCESS else None

    def write(self, data: bytes) -> None:
        try:
            self.parser.feed(data)
        except BadSitemap as error:
            raise SitemapFailed(str(error)) from None

    def close(self, error: Exception | None) -> None:
        if error is None:
            try:
                self.parser.finish()
            except BadSitemap as trouble:
                raise SitemapFailed(str(trouble)) from None


@define(eq=False)
class SitemapSource:
    """The URLs of a sitemap, or of all sitemaps of an index, one sitemap at a time.

    failed: told the result of a sitemap that could not be read.
    """

    _fetcher: Fetcher
    _waiting: list[str]
    _failed: Callable[[Result], object]
    _seen: Seen = field(factory=Seen)

    async def batch(self) -> list[str]:
        """See Source."""
        while self._waiting:
            url = self._waiting.pop()
            if self._seen.add(url):
                pages = await self._read(url)
                if pages:
                    return pages
        return []

    async def _read(self, url: str) -> list[str]:
        reading = _Reading()
        try:
            request = Request(parse_url(url), follow=False)
        except BadURL as error:
            self._failed(Result(url, error=f"BadURL: {error}"))
            return []
        done: Deferred[Result] = Deferred()
        # The site itself names these for robots to read.
        self._fetcher.submit(Job(url, request, done.callback, (reading,), heeds_robots=False))
        result = await done
        if result.error is not None:
            self._failed(result)
            return []
        self._waiting += reversed(reading.parser.sitemaps)
        return reading.parser.pages
