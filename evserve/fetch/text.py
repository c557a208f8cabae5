"""Text from bytes that a server sent: byte-order marks, declared charsets, invalid bytes."""

import codecs
import re


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PARAMETER = re.compile(r"""charset\s*=\s*["']?([^\s"';,]+)""", re.IGNORECASE)
_DECLARED = re.compile(
    rb"""<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]+)|<meta[^>]{0,200}?\bcharset\s*=\s*["']?([\w.:-]+)""",
    re.IGNORECASE,
)
DECLARED_WITHIN = 1024  # bytes; as browsers do
# What browsers mean by a name that has a smaller charset (WHATWG Encoding, section 4.2).
_SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_WIDE = ("utf-16", "utf-16-le", "utf-16-be")
# Escapes of codecs that are not for the web (UTF-7, unicode_escape, HZ) would change this.
_PROBE = b"<a>+AGE-\\x41\\u0041~{"


def decode(data: bytes, content_type: str | None = None) -> str:
    """Return `data` as text; what its encoding cannot mean becomes U+FFFD.

    The encoding is that of a byte-order mark, of Content-Type, of a declaration at the beginning
    (HTML, XML), or else UTF-8 or, if it is not that, windows-1252.
    """
    codec = marked_encoding(data) or charset_of(content_type) or declared_encoding(data)
    if codec is not None:
        return data.decode(codec, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def marked_encoding(data: bytes) -> str | None:
    """Return the codec of a byte-order mark, which it skips; None without one."""
    return next((codec for mark, codec in _MARKS if data.startswith(mark)), None)


def charset_of(content_type: str | None) -> str | None:
    """Return the codec of a Content-Type's charset; None if it names none that is known."""
    found = _PARAMETER.search(content_type or "")
    return None if found is None else _find_codec(found[1])


def declared_encoding(data: bytes) -> str | None:
    """Return the codec that an XML declaration or an HTML meta element names, or None."""
    found = _DECLARED.search(data[:DECLARED_WITHIN])
    if found is None:
        return None
    codec = _find_codec((found[1] or found[2]).decode("ascii", "replace"))
    return "utf-8" if codec in _WIDE else codec  # in which it could not have been read


def _find_codec(name: str) -> str | None:
    try:
        codec = codecs.lookup(name).name
        codec = _SUPERSETS.get(codec, codec)
        is_usable = codec in _WIDE or _PROBE.decode(codec, "replace") == _PROBE.decode()
    except (LookupError, ValueError):  # unknown, or no charset
        return None
    return codec if is_usable else None


class MarkedDecoder:
    """Decodes pieces of UTF-8, or of UTF-16 with a byte-order mark; marks are skipped.

    Bytes that are not UTF-8 are kept, as surrogates.
    """

    def __init__(self) -> None:
        self._start = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def decode(self, data: bytes, *, final: bool = False) -> str:
        """Return the text of a piece."""
        if self._decoder is None:
            data = self._start + data
            if not final and any(mark.startswith(data) for mark, _ in _MARKS):
                self._start = data
                return ""
            self._decoder = make_decoder(marked_encoding(data) or "utf-8")
        return self._decoder.decode(data, final)


def make_decoder(codec: str) -> codecs.IncrementalDecoder:
    """Return a decoder that never raises."""
    errors = "surrogateescape" if codec.startswith("utf-8") else "replace"
    return codecs.getincrementaldecoder(codec)(errors)
