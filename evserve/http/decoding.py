"""Bodies decompressed, with limits: gzip, deflate, and br and zstd where a library is installed.

Decoders yield pieces of bounded size, and each only on demand: a body that grows a thousandfold
needs no more memory than another. A corrupt, incomplete or excessively compressed body is an
error, and the pieces that came before the error are not the body.
"""

import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

from attrs import frozen

from evserve.http.errors import (
    BodyTooLarge,
    CorruptBody,
    DecompressionBomb,
    UnsupportedEncoding,
)


PIECE = 64 * 1024  # bytes
_MAX_CODINGS = 5  # the limit of curl
_NO_CODING = re.compile(
    rb"|identity|none|null|undefined|off|no|raw|plain|text|binary|[78]bit|(?:aws-)?chunked"
    rb"|(?:utf|ucs|iso|us-ascii|ascii|latin|windows|cp\d|koi8|gb\d|gbk|big5|shift_jis|euc)[\w.:-]*"
    rb"|[\w.+-]+/[\w.+-]+"
)
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP, _RAW = 31, -15  # zlib's window bits: with the header of gzip, without a header
# A block of zstd is at most 128 KiB and can be compressed to 4 bytes: a slice gives up to 8 MiB.
_ZSTD_SLICE = 256
_ZSTD_WINDOW = 8 * 1024 * 1024  # RFC 9659


@frozen
class DecodingLimits:
    """A body may grow to `free` bytes, or to `ratio` times its compressed length."""

    ratio: int = 200
    free: int = 8 * 1024 * 1024


class BodyFlow:
    """Decompresses and counts a body on its way to `deliver`, and holds it back while paused.

    Pausing the connection cannot stop what has been read already. Up to one read of it waits
    here, still compressed, so that a small bomb stays small.
    """

    def __init__(
        self,
        deliver: Callable[[bytes], None],
        decoder: "ContentDecoder | None" = None,
        limit: int | None = None,
    ) -> None:
        self._deliver = deliver
        self._decoder = decoder
        self._limit = limit  # bytes after decompression
        self._count = 0
        self._is_paused = self._is_running = self._has_ended = False
        self._backlog: deque[bytes] = deque()
        self._pieces: Iterator[bytes] = iter(())
        self.done = False  # whether everything has been delivered

    def take(self, data: bytes) -> None:
        """Take a part of the body as it was sent. Raises FetchError if it cannot be decoded."""
        self._backlog.append(data)
        self._run()

    def end(self) -> None:
        """Take the end of the body. Raises as `take` does."""
        self._has_ended = True
        self._run()

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        """Deliver what waits. Raises as `take` does."""
        self._is_paused = False
        self._run()

    def _run(self) -> None:
        if self._is_running:  # the reader resumes from within `deliver`
            return
        self._is_running = True
        try:
            while not self._is_paused and not self.done:
                if not self._step():
                    return
        finally:
            self._is_running = False

    def _step(self) -> bool:
        """Deliver a piece, or begin the next part; return False if there is nothing to do."""
        piece = next(self._pieces, None)
        if piece is not None:
            self._count += len(piece)
            if self._limit is not None and self._count > self._limit:
                raise BodyTooLarge(f"the body is longer than {self._limit} bytes")
            self._deliver(piece)
        elif self._backlog:
            data = self._backlog.popleft()
            self._pieces = self._decoder.feed(data) if self._decoder else iter((data,))
        else:
            if self._has_ended:
                if self._decoder is not None:
                    self._decoder.finish()
                self.done = True
            return False
        return True


def content_codings(value: bytes) -> list[bytes]:
    """Return the codings that a Content-Encoding names, in lower case.

    Many servers write there what is no coding: a character set, a media type, that there is
    none, or how the body once came to them (aws-chunked).
    """
    names = [name.strip() for name in value.lower().split(b",")]
    return [name for name in names if not _NO_CODING.fullmatch(name)]


class ContentDecoder:
    """Undoes all codings of a Content-Encoding, the last one first."""

    def __init__(self, codings: bytes, limits: DecodingLimits) -> None:
        names = [name.decode("latin-1") for name in content_codings(codings)]
        if len(names) > _MAX_CODINGS:
            raise UnsupportedEncoding(f"more than {_MAX_CODINGS} content codings")
        self._codings = [make_coding(name) for name in reversed(names)]
        self._limits = limits
        self._taken = self._given = 0  # bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, in pieces. Raises CorruptBody or DecompressionBomb."""
        self._taken += len(data)
        pieces: Iterator[bytes] = iter((data,))
        for coding in self._codings:
            pieces = _decode_pieces(coding, pieces)
        for piece in pieces:
            self._given += len(piece)
            if self._given > max(self._limits.free, self._taken * self._limits.ratio):
                raise DecompressionBomb(f"{self._taken} bytes became more than {self._given}")
            if piece:
                yield piece

    def finish(self) -> None:
        """Take the end of the body. Raises CorruptBody if a coding is not complete."""
        for coding in self._codings:
            coding.finish()


class Coding:
    """Undoes one content coding of a body: one stream, or several if the format allows it.

    start: makes a stream from the first bytes, or returns None if it needs more of them.
    error: what streams raise for invalid data.  following: the first bytes of another stream,
    None if there is only one.  ignores_rest: whether bytes after the end do no harm.
    """

    def __init__(
        self,
        name: str,
        start: "_Start",
        error: type[Exception],
        following: bytes | None,
        *,
        ignores_rest: bool,
    ) -> None:
        self._name = name
        self._start = start
        self._error = error
        self._following = following
        self._ignores_rest = ignores_rest
        self._stream: _Stream | None = None
        self._first_bytes = b""  # too few to start a stream
        self._has_ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, in pieces. Raises CorruptBody."""
        data = self._first_bytes + data
        while data and self._begin(data):
            stream = self._stream
            assert stream is not None
            try:
                yield from stream.pieces(data)
            except self._error:
                raise CorruptBody(f"the {self._name} body is corrupt") from None
            data = b""
            if stream.eof:
                data, self._stream, self._has_ended = stream.unused_data, None, True

    def finish(self) -> None:
        """Take the end of the body. Raises CorruptBody if a stream is not complete."""
        if self._stream is not None or (self._first_bytes and not self._has_ended):
            raise CorruptBody(f"the {self._name} body is cut off")

    def _begin(self, data: bytes) -> bool:
        """Make sure that there is a stream; return False if `data` has none."""
        if self._stream is None:
            self._first_bytes = b""
            if self._has_ended and not self._follows(data):
                return False
            self._stream = self._start(data)
            self._first_bytes = b"" if self._stream else data
        return self._stream is not None

    def _follows(self, data: bytes) -> bool:
        """Whether `data`, after the end of a stream, begins another."""
        following = self._following
        if following is None or not following.startswith(data[: len(following)]):
            if not self._ignores_rest:
                raise CorruptBody(f"the {self._name} body continues after its end")
            self._following = None
            return False
        if len(data) < len(following):
            self._first_bytes = data
            return False
        return True


def make_coding(name: str) -> Coding:
    """Return a decoder for the content coding `name`. Raises UnsupportedEncoding."""
    arguments = _codings().get("gzip" if name == "x-gzip" else name)
    if arguments is None:
        raise UnsupportedEncoding(
            f"content coding {name!r} is unknown, or its library is not installed"
        )
    start, error, following, ignores_rest = arguments
    return Coding(name, start, error, following, ignores_rest=ignores_rest)


def accepted_codings() -> bytes:
    """Return the value for Accept-Encoding: all codings that can be undone."""
    return ", ".join(_codings()).encode()


def _decode_pieces(coding: Coding, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from coding.feed(piece)


def _start_deflate(data: bytes) -> "_Stream | None":
    """RFC 9110, section 8.4.1.2, requires zlib's format, but some servers send the bare stream."""
    if len(data) < 2:  # noqa: PLR2004 # bytes of zlib's header
        return None
    is_zlib = data[0] & 0x0F == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0
    return _Inflate(zlib.MAX_WBITS if is_zlib else _RAW)


@lru_cache(maxsize=1)
def _codings() -> "dict[str, tuple[_Start, type[Exception], bytes | None, bool]]":
    """Return the arguments of `Coding` for everything that can be undone here."""
    found: dict[str, tuple[_Start, type[Exception], bytes | None, bool]] = {
        # Browsers ignore what follows a complete stream of these, and some servers send it.
        "gzip": (lambda _: _Inflate(_GZIP), zlib.error, _GZIP_MAGIC, True),
        "deflate": (_start_deflate, zlib.error, None, True),
    }
    brotli = _import_library("brotli")
    # Before 1.2 its output cannot be bounded.
    if hasattr(getattr(brotli, "Decompressor", None), "can_accept_more_data"):
        found["br"] = lambda _: _Brotli(brotli), brotli.error, None, False
    zstd = _import_library("zstandard")
    if zstd:
        found["zstd"] = lambda _: _Zstandard(zstd), zstd.ZstdError, b"", False
    return found


def _import_library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


class _Stream(Protocol):
    """One compressed stream."""

    @property
    def eof(self) -> bool:
        """Whether its end has been reached."""

    @property
    def unused_data(self) -> bytes:
        """The bytes after its end."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, at most about `PIECE` bytes at a time."""


_Start = Callable[[bytes], _Stream | None]


class _Inflate:
    def __init__(self, window_bits: int) -> None:
        self._zlib = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._zlib.decompress(data, PIECE)
            if piece:
                yield piece
            data = self._zlib.unconsumed_tail
            # A full piece may leave output inside zlib with no input left to push it out.
            if self._zlib.eof or (not data and len(piece) < PIECE):
                return


class _Brotli:
    unused_data = b""

    def __init__(self, library: Any) -> None:
        self._brotli = library.Decompressor()

    @property
    def eof(self) -> bool:
        return bool(self._brotli.is_finished())

    def pieces(self, data: bytes) -> Iterator[bytes]:
        piece = self._brotli.process(data, output_buffer_limit=PIECE)
        while piece or not self._brotli.can_accept_more_data():
            yield piece
            piece = self._brotli.process(b"", output_buffer_limit=PIECE)


class _Zstandard:
    """The output of `zstandard` cannot be bounded, so it gets small slices of input."""

    def __init__(self, library: Any) -> None:
        self._zstd = library.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._left = b""

    @property
    def eof(self) -> bool:
        return bool(self._zstd.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._zstd.unused_data) + self._left

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            yield self._zstd.decompress(data[start : start + _ZSTD_SLICE])
            if self._zstd.eof:
                self._left = data[start + _ZSTD_SLICE :]
                return
