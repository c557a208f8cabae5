"""The content codings one by one: gzip, deflate, and br and zstd when a library is installed.

A stream yields pieces of bounded size and stops as soon as nobody asks for the next: a body that
grows a thousandfold costs its reader no more memory than any other.

Content-Encoding undone, with an eye on how much comes out.

Corrupt, cut off and absurdly compressible bodies are errors. What was yielded before is only the
beginning of something wrong: the caller must not take it for the body.

A body on its way to its reader: decompressed, counted, and held back while the reader rests.
"""

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

from attrs import frozen

from evserve.http.errors import BodyTooLarge, CorruptBody, DecompressionBomb, UnsupportedEncoding


PIECE = 64 * 1024
_GZIP, _RAW = 31, -15  # zlib's window bits: with gzip's header, without any
# One block of zstd is at most 128 KiB and may come as 4 bytes, so this many hide at most 8 MiB.
_ZSTD_SLICE = 256
_ZSTD_WINDOW = 8 * 1024 * 1024  # RFC 9659


class Stream(Protocol):
    """One compressed stream being undone."""

    @property
    def eof(self) -> bool:
        """Whether its end has been seen."""

    @property
    def unused_data(self) -> bytes:
        """What came after its end."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` gives, at most about `PIECE` bytes at a time."""


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
    """The `zstandard` package, which cannot be told how much to give: it gets little at a time."""

    def __init__(self, library: Any) -> None:
        unlimited = library.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._zstd = unlimited.decompressobj()
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


class Coding:
    """A body in one coding: a stream, or several in a row where the format allows that."""

    def __init__(
        self,
        name: str,
        start: Callable[[bytes], Stream | None],
        error: type[Exception],
        *,
        repeats: bool,
    ) -> None:
        self._name = name
        self._start = start
        self._error = error
        self._repeats = repeats
        self._stream: Stream | None = None
        self._waiting = b""  # too little to tell how the stream begins
        self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` gives, in pieces; raises CorruptBody."""
        data = self._waiting + data
        while data and self._begin(data):
            stream = self._stream
            assert stream is not None
            try:
                yield from stream.pieces(data)
            except self._error as error:
                raise CorruptBody(f"the {self._name} body is corrupt: {error}") from None
            data = b""
            if stream.eof:
                data, self._stream, self._ended = stream.unused_data, None, True

    def finish(self) -> None:
        """The body is at its end; raises CorruptBody if its compressed form is not."""
        if self._stream is not None or self._waiting:
            raise CorruptBody(f"the {self._name} body is cut off")

    def _begin(self, data: bytes) -> bool:
        if self._stream is None:
            if self._ended and not data.strip(b"\0"):
                return False  # padding, which gzip allows and everybody forgives
            if self._ended and not self._repeats:
                raise CorruptBody(f"the {self._name} body goes on after its end")
            self._stream = self._start(data)
            self._waiting = b"" if self._stream else data
        return self._stream is not None


def _deflate(data: bytes) -> Stream | None:
    """RFC 9110, section 8.4.1.2, wants zlib's format; some servers send the bare stream."""
    if len(data) < 2:  # noqa: PLR2004 # the header's two bytes
        return None
    is_zlib = data[0] & 0x0F == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0
    return _Inflate(zlib.MAX_WBITS if is_zlib else _RAW)


def make_coding(name: str) -> Coding:
    """Return the undoing of the content coding `name`; raises UnsupportedEncoding."""
    if name in ("gzip", "x-gzip"):
        return Coding(name, lambda _: _Inflate(_GZIP), zlib.error, repeats=True)
    if name == "deflate":
        return Coding(name, _deflate, zlib.error, repeats=False)
    make = installed().get(name)
    if make is None:
        raise UnsupportedEncoding(f"content coding {name!r} is unknown, or its library not here")
    return make()


@lru_cache(maxsize=1)
def installed() -> dict[str, Callable[[], Coding]]:
    """Return what this Python can undo beyond zlib."""
    found: dict[str, Callable[[], Coding]] = {}
    brotli = _library("brotli")
    # Before 1.2 there was no way to bound its output.
    if hasattr(getattr(brotli, "Decompressor", None), "can_accept_more_data"):
        found["br"] = lambda: Coding("br", lambda _: _Brotli(brotli), brotli.error, repeats=False)
    zstd = _library("zstandard")
    if zstd:
        found["zstd"] = lambda: Coding(
            "zstd", lambda _: _Zstandard(zstd), zstd.ZstdError, repeats=True
        )
    return found


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


_MAX_CODINGS = 5  # what curl takes


@frozen
class DecodingLimits:
    """How far a body may grow: at most `ratio` times, once it is past `free` bytes."""

    ratio: int = 200
    free: int = 8 * 1024 * 1024


class ContentDecoder:
    """All codings of a body, undone last first."""

    def __init__(self, codings: bytes, limits: DecodingLimits) -> None:
        names = [name.strip().decode("latin-1") for name in codings.lower().split(b",")]
        names = [name for name in names if name not in ("", "identity")]
        if len(names) > _MAX_CODINGS:
            raise UnsupportedEncoding(f"more than {_MAX_CODINGS} content codings")
        self._codings = [make_coding(name) for name in reversed(names)]
        self._limits = limits
        self._taken = self._given = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the plain form of `data`; raises CorruptBody, DecompressionBomb."""
        self._taken += len(data)
        pieces: Iterator[bytes] = iter((data,))
        for coding in self._codings:
            pieces = _through(coding, pieces)
        for piece in pieces:
            self._given += len(piece)
            if self._given > max(self._limits.free, self._taken * self._limits.ratio):
                raise DecompressionBomb(f"{self._taken} bytes became {self._given} and more")
            if piece:
                yield piece

    def finish(self) -> None:
        """The body is at its end; raises CorruptBody if a coding is not."""
        for coding in self._codings:
            coding.finish()


def _through(coding: Coding, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from coding.feed(piece)


def accepted() -> bytes:
    """Return the value for Accept-Encoding: what can be undone here."""
    return ", ".join(["gzip", "deflate", *installed()]).encode()


class BodyFlow:
    """Takes what the parser finds and gives pieces to `deliver`, none while paused.

    Pausing the connection cannot stop what was already read: up to one read's worth of it waits
    here, still compressed, which is what keeps a small bomb small.
    """

    def __init__(
        self,
        deliver: Callable[[bytes], None],
        decoder: ContentDecoder | None = None,
        limit: int | None = None,
    ) -> None:
        self._deliver = deliver
        self._decoder = decoder
        self._limit = limit
        self._count = 0
        self._paused = self._running = self._ended = False
        self._backlog: deque[bytes] = deque()
        self._pieces: Iterator[bytes] = iter(())
        self.done = False

    def take(self, data: bytes) -> None:
        """Take a part of the body as it came; raises FetchError if it is not to be had."""
        self._backlog.append(data)
        self._run()

    def end(self) -> None:
        """Note that nothing more will come; `done` says when all has been delivered."""
        self._ended = True
        self._run()

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Deliver what waits, and what comes; raises FetchError as `take` does."""
        self._paused = False
        self._run()

    def _run(self) -> None:
        if self._running:  # the reader resumes from within `deliver`
            return
        self._running = True
        try:
            while not self._paused and not self.done:
                if not self._step():
                    return
        finally:
            self._running = False

    def _step(self) -> bool:
        """Deliver one piece, or begin the next part; return whether there was one."""
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
            self._finish()
            return False
        return True

    def _finish(self) -> None:
        if self._ended:
            if self._decoder is not None:
                self._decoder.finish()
            self.done = True
