"""Sitemaps as a source of URLs: what sites publish, which is often not quite XML."""

import codecs
import re
import sys
from collections.abc import Callable, Iterable

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from evserve.fetch.errors import SitemapFailed, error_text
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.job import Job
from evserve.fetch.policy import PAGE_HEADERS
from evserve.fetch.result import Result
from evserve.fetch.scheduler import DuplicateFilter
from evserve.fetch.sources import LineSplitter
from evserve.fetch.text import (
    DECLARED_WITHIN,
    declared_encoding,
    make_decoder,
    marked_encoding,
)
from evserve.http.decoding import Coding, make_coding
from evserve.http.errors import BadURL, CorruptBody, FetchError, shorten
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import URL, parse_url


_log = Logger(namespace="evserve.fetch")

_SUCCESS = range(200, 300)
_GZIP = b"\x1f\x8b"
_TEXT = "http"  # how the text form begins, and XML does not
_MAX_BYTES = 100 * 1024 * 1024  # decompressed; twice what sitemaps.org allows
_MAX_DEPTH = 5  # of indexes; sitemaps.org allows one
_RELATIVE = ("/", "?", "./", "../")


@define(eq=False)
class SitemapSource:
    """The URLs of a sitemap, or of all sitemaps of an index, one sitemap at a time.

    headers: of a page's request; those that concern only pages are not sent.  failed: gets the
    result of a sitemap that cannot be read, or of which only the beginning can.
    """

    _fetcher: Fetcher
    _urls: Iterable[str]
    _failed: Callable[[Result], object]
    _headers: Headers = field(factory=Headers)
    _duplicates: DuplicateFilter = field(factory=DuplicateFilter)
    _waiting: list[tuple[str, int]] = field(init=False)  # with their depth; the next one is last

    def __attrs_post_init__(self) -> None:
        self._headers = self._headers.without(*PAGE_HEADERS)
        self._waiting = [(url, 0) for url in reversed(list(self._urls))]

    async def next_batch(self) -> list[str]:
        while self._waiting:
            url, depth = self._waiting.pop()
            if self._duplicates.add(url):
                pages = await self._read(url, depth)
                if pages:
                    return pages
        return []

    async def _read(self, text: str, depth: int) -> list[str]:
        try:
            url = parse_url(text)
            if depth > _MAX_DEPTH:
                raise SitemapFailed(f"more than {_MAX_DEPTH} indexes lead to it")
        except FetchError as error:
            self._failed(Result.not_sent(text, error))
            return []
        sink = _SitemapSink()
        done: Deferred[Result] = Deferred()
        request = Request(url, headers=self._headers, follow=False)
        # Sites publish sitemaps for robots, so robots.txt does not apply.
        self._fetcher.submit(Job(text, request, done.callback, (sink,), obeys_robots=False))
        result = await done
        parser = sink.parser
        pages, sitemaps = parser.pages, parser.sitemaps
        if result.error is not None:
            if pages or sitemaps:
                _log.warn(
                    "{url}: {error}; the {count} URLs before that are used",
                    url=str(url),
                    error=error_text(result.error),
                    count=len(pages) + len(sitemaps),
                )
            self._failed(result)
        elif parser.problem:
            _log.warn(
                "{url}: {problem}; all {count} URLs are used",
                url=str(url),
                problem=parser.problem,
                count=len(pages) + len(sitemaps),
            )
        if not parser.is_text:
            base = parse_url(result.final_url or text)
            pages, sitemaps = _absolute(base, pages), _absolute(base, sitemaps)
        self._waiting += ((each, depth + 1) for each in reversed(sitemaps))
        return pages


def _absolute(base: URL, found: list[str]) -> list[str]:
    """Return the URLs with those that are relative made absolute, which no sitemap should need."""
    return [_joined(base, url) if url.startswith(_RELATIVE) else url for url in found]


def _joined(base: URL, reference: str) -> str:
    try:
        return str(base.join(reference))
    except BadURL:
        return reference  # which becomes a result with that error


@define(eq=False)
class SitemapParser:
    """Reads sitemaps (sitemaps.org 0.9) and indexes of them, a piece at a time.

    They are XML, or text with a URL a line; each plain or gzipped. Collects `pages` and, from an
    index, `sitemaps`. `feed`, `flush` and `finish` raise SitemapFailed; what was collected until
    then is whole. problem: what no XML may have, but did no harm.
    """

    pages: list[str] = field(factory=list)
    sitemaps: list[str] = field(factory=list)
    _start: bytes | None = b""  # until it is long enough to recognize gzip
    _gzip: Coding | None = None
    _size: int = 0
    _head: bytes = b""  # until it is long enough to recognize the encoding
    _decoder: codecs.IncrementalDecoder | None = None
    _text: str = ""  # what is not read yet
    _lines: LineSplitter | None = None
    _markup: "SitemapMarkup | None" = None

    @property
    def is_text(self) -> bool:
        """Whether it is not XML."""
        return self._lines is not None

    @property
    def problem(self) -> str:
        """What is wrong with its XML, although nothing was lost; else an empty string."""
        return "" if self._markup is None else self._markup.problem

    def feed(self, data: bytes) -> None:
        """Read a piece."""
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
            self.flush()
            raise SitemapFailed(str(error)) from None

    def flush(self) -> None:
        """Read what waits for more to come."""
        if self._start is not None:
            self._head, self._start = self._start, None
        self._decode(b"", final=True)

    def finish(self) -> None:
        """End the sitemap."""
        self.flush()
        try:
            if self._gzip is not None:
                self._gzip.finish()
        except CorruptBody as error:
            raise SitemapFailed(str(error)) from None
        if self._lines is not None:
            self.pages += self._lines.finish()
        elif self._markup is None:
            raise SitemapFailed("neither XML nor a list of URLs")
        else:
            self._markup.finish()

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > _MAX_BYTES:
            raise SitemapFailed(f"longer than {_MAX_BYTES} bytes")
        self._decode(data)

    def _decode(self, data: bytes, *, final: bool = False) -> None:
        if self._decoder is None:
            self._head += data
            if len(self._head) < DECLARED_WITHIN and not final:
                return
            data, self._head = self._head, b""
            self._decoder = make_decoder(_sitemap_encoding(data))
        self._read(self._decoder.decode(data, final), final=final)

    def _read(self, text: str, *, final: bool) -> None:
        if self._markup is None and self._lines is None:
            text = self._text = (self._text + text).lstrip("\ufeff \t\r\n")
            if len(text) < len(_TEXT) and not final:
                return
            if text[: len(_TEXT)].lower() == _TEXT:
                self._lines = LineSplitter()
            elif text.startswith("<"):
                self._markup = SitemapMarkup(self.pages, self.sitemaps)
            elif text:
                raise SitemapFailed("neither XML nor a list of URLs")
        if self._lines is not None:
            self.pages += self._lines.split(text)
        elif self._markup is not None:
            self._markup.feed(text)


def _sitemap_encoding(data: bytes) -> str:
    if data.startswith((b"<\0", b"\0<")):  # UTF-16 without a mark
        return "utf-16-le" if data[:1] == b"<" else "utf-16-be"
    return marked_encoding(data) or declared_encoding(data) or "utf-8"


_ROOTS = "urlset", "sitemapindex"
_NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"
_MAX_LOC = 8192  # pieces of text
_MAX_TOKEN = 64 * 1024  # characters
_MAX_OPEN = 100  # elements
_MAX_BARE = 10_000  # of `<`; what has more is not meant to be XML
_TAG = re.compile(r"<(/?)([A-Za-z_][^\s<>/]*+)([^<>]*+)>")
_BEGUN_TAG = re.compile(r"</?(?:[A-Za-z_][^<>]*+)?\Z")
_ENDS = re.compile(r"[<>\[]")  # one of these ends whatever a `<` began
_XMLNS = re.compile(r"""\bxmlns(?::([\w.-]+))?\s*=\s*["']?([^"'\s>]*)""")
_REFERENCE = re.compile(r"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6}));|&")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
# What is skipped or taken whole: how it begins and ends.
_SECTIONS = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"))


@frozen
class _Element:
    name: str  # in lower case
    local: str  # without its prefix; empty if it is of another vocabulary
    namespaces: dict[str, str]


@define(eq=False)
class SitemapMarkup:
    """Finds the <loc> of a sitemap in text that should be XML.

    Many sites write sitemaps without escaping, and an XML parser would give up at the first bare
    `&`. So this reads tags as they come, as other crawlers do, and expands no entities but
    XML's own five.
    """

    _pages: list[str]
    _sitemaps: list[str]
    problem: str = field(default="", init=False)
    _rest: str = field(default="", init=False)
    _open: list[_Element] = field(factory=list, init=False)
    _root: str = field(default="", init=False)  # its name
    _namespace: str = field(default="", init=False)  # the root's
    _bare: int = field(default=0, init=False)
    _loc: list[str] = field(factory=list, init=False)  # the text of an open <loc>

    def feed(self, text: str) -> None:
        """Read a piece. Raises SitemapFailed."""
        if not self._rest or _ENDS.search(text):
            text = self._rest + text
            self._rest = text[self._read_tokens(text) :]
        else:  # read again for each of many small pieces, it would take quadratic time
            self._rest += text
        if self._rest.startswith("<!--"):
            self._rest = f"<!--{self._rest[4:][-2:]}"  # however long it is
        elif len(self._rest) > _MAX_TOKEN:
            raise SitemapFailed(f"a tag or section of more than {_MAX_TOKEN} characters")

    def _read_tokens(self, text: str) -> int:
        """Read what is complete; return where the rest begins."""
        at = 0
        while (start := text.find("<", at)) >= 0:
            self._on_text(text[at:start])
            end = self._read_token(text, start)
            if end is None:
                return start
            at = end
        self._on_text(text[at:])
        return len(text)

    def finish(self) -> None:
        """End the sitemap. Raises SitemapFailed."""
        if not self._root:
            raise SitemapFailed("neither XML nor a list of URLs")
        if self._open:
            raise SitemapFailed(f"cut off: it ends before </{shorten(self._root)}>")

    def _read_token(self, text: str, start: int) -> int | None:
        """Read what a `<` begins; return where it ends, None if that is not there yet."""
        tag = _TAG.match(text, start)
        if tag is not None:
            closes, name, rest = tag.groups()
            if closes:
                self._on_end(name)
            else:
                self._on_start(name, rest)
                if rest.endswith("/"):
                    self._on_end(name)
            return tag.end()
        if text.startswith(("<!", "<?"), start):
            return self._read_section(text, start)
        if _BEGUN_TAG.match(text, start):
            return None
        self.problem = "it has a bare <"
        self._bare += 1
        if self._bare > _MAX_BARE:
            raise SitemapFailed(f"more than {_MAX_BARE} < that begin nothing")
        self._on_text("&lt;")
        return start + 1

    def _read_section(self, text: str, start: int) -> int | None:
        for begin, end in _SECTIONS:
            beginning = text[start : start + len(begin)]
            if beginning != begin and begin.startswith(beginning):
                return None  # the rest of it is in the next piece
            if beginning == begin:
                found = text.find(end, start + len(begin))
                if found < 0:
                    return None
                if begin == "<![CDATA[":
                    self._on_text(text[start + len(begin) : found].replace("&", "&amp;"))
                return found + len(end)
        if text[start : start + 8].upper() == "<!ENTITY":
            raise SitemapFailed("it declares entities, which no sitemap needs")
        ends = [at for mark in "[>" if (at := text.find(mark, start)) >= 0]
        return min(ends) + 1 if ends else None

    def _on_start(self, name: str, attributes: str) -> None:
        if self._open and self._open[-1].local == "loc":  # which contains only text
            self.problem = "it has a <loc> without its end"
            self._close()
        namespaces = self._open[-1].namespaces if self._open else {}
        if "xmlns" in attributes:
            namespaces = {**namespaces, **dict(_XMLNS.findall(attributes))}
        name = name.lower()
        prefix, _, local = name.rpartition(":")
        if not self._open:
            if local not in _ROOTS:
                if self._root:
                    return
                raise SitemapFailed(
                    f"it begins with <{shorten(name)}>, not with <urlset> or <sitemapindex>"
                )
            self._root, self._namespace = name, namespaces.get(prefix, "")
        if len(self._open) >= _MAX_OPEN:
            raise SitemapFailed(f"more than {_MAX_OPEN} elements in each other")
        is_known = self._is_known(prefix, namespaces)
        self._open.append(_Element(name, local if is_known else "", namespaces))

    def _is_known(self, prefix: str, namespaces: dict[str, str]) -> bool:
        """Whether an element is of a sitemap's own vocabulary.

        Many sites omit or misspell its namespace. Elements of others, such as the one for images,
        do not count, because they have a <loc> too.
        """
        is_declared = prefix in namespaces
        if not is_declared:
            return prefix in ("", self._root.rpartition(":")[0])
        return namespaces[prefix] in ("", self._namespace, _NAMESPACE)

    def _on_text(self, text: str) -> None:
        if text and self._open and self._open[-1].local == "loc" and len(self._loc) < _MAX_LOC:
            self._loc.append(text)

    def _on_end(self, name: str) -> None:
        name = name.lower()
        if self._open and self._open[-1].name == name:
            self._close()
        elif any(element.name == name for element in self._open):
            self.problem = f"it has elements that </{shorten(name)}> ends"
            while self._close() != name:
                pass
        else:
            self.problem = f"it has a </{shorten(name)}> too many"

    def _close(self) -> str:
        """End the innermost element; return its name."""
        element = self._open.pop()
        if element.local == "loc":
            url = self._unescaped("".join(self._loc)).strip()
            parent = self._open[-1].local if self._open else ""
            if url and parent == "url":
                self._pages.append(url)
            elif url and parent == "sitemap":
                self._sitemaps.append(url)
        self._loc.clear()
        return element.name

    def _unescaped(self, text: str) -> str:
        return _REFERENCE.sub(self._replaced, text) if "&" in text else text

    def _replaced(self, reference: re.Match[str]) -> str:
        name, decimal, hexadecimal = reference.groups()
        if name:
            return _NAMED[name]
        if not (decimal or hexadecimal):
            self.problem = "it has a bare &"
            return "&"
        code = int(decimal) if decimal else int(hexadecimal, 16)
        return chr(code) if code <= sys.maxunicode else "\ufffd"


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
        else:
            self.parser.flush()
