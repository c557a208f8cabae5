"""Content-Encoding undone, with an eye on how much comes out.

Corrupt, cut off and absurdly compressible bodies are errors. What was yielded before is only the
beginning of something wrong: the caller must not take it for the body.
"""

from collections.abc import Iterator

from attrs import frozen

from evserve.http.codings import Coding, installed, make_coding
from evserve.http.errors import DecompressionBomb, UnsupportedEncoding


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
