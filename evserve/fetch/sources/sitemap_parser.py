"""Sitemaps (sitemaps.org 0.9) and indexes of them, plain or gzipped, taken a piece at a time."""

import zlib
from xml.parsers import expat

from attrs import define, field


_NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"
_GZIP = b"\x1f\x8b"
_MAX_BYTES = 100 * 1024 * 1024  # twice what sitemaps.org allows, unpacked
_MAX_LOC = 8192  # characters


class BadSitemap(Exception):  # noqa: N818 - it is the sitemap that is bad
    """What was fetched is no sitemap; the message says why."""


@define(eq=False)
class SitemapParser:
    """Collects `pages`, and `sitemaps` if it is an index; `feed` and `finish` raise BadSitemap."""

    pages: list[str] = field(factory=list)
    sitemaps: list[str] = field(factory=list)
    _parser: expat.XMLParserType = field(init=False)
    _start: bytes = b""
    _unzip: "zlib._Decompress | None" = None
    _begun: bool = False
    _size: int = 0
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
        if not self._begun:
            self._start += data
            if len(self._start) < len(_GZIP):
                return
            self._begun, data = True, self._start
            if data.startswith(_GZIP):
                self._unzip = zlib.decompressobj(wbits=31)
        if self._unzip is None:
            self._parse(data)
        else:
            self._inflate(self._unzip, data)

    def finish(self) -> None:
        """There are no more pieces."""
        if self._unzip is not None and not self._unzip.eof:
            raise BadSitemap("the gzip file is cut off")
        self._parse(b"", final=True)

    def _inflate(self, unzip: "zlib._Decompress", data: bytes) -> None:
        try:
            while data:
                self._parse(unzip.decompress(data, 64 * 1024))
                data = unzip.unconsumed_tail
        except zlib.error as error:
            raise BadSitemap(f"not a gzip file: {error}") from None

    def _parse(self, data: bytes, *, final: bool = False) -> None:
        self._size += len(data)
        if self._size > _MAX_BYTES:
            raise BadSitemap(f"longer than {_MAX_BYTES} bytes")
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            raise BadSitemap(f"not XML: {error}") from None

    def _on_entity(self, *declaration: object) -> None:
        raise BadSitemap("it declares entities, which no sitemap needs")

    def _on_start(self, name: str, attributes: object) -> None:
        namespace, _, local = name.rpartition(" ")
        # Many sites leave the namespace out; another one, such as of images, has its own <loc>.
        self._stack.append(local if namespace in ("", _NAMESPACE) else name)
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
