"""Sitemaps (sitemaps.org 0.9) and indexes of them, taken a piece at a time.

They may be XML, or text with a URL a line; each plain or gzipped.
"""

from xml.parsers import expat

from attrs import define, field

from evserve.fetch.sources.cutter import MARK, Cutter
from evserve.http.decoding import Coding, make_coding
from evserve.http.errors import CorruptBody


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
