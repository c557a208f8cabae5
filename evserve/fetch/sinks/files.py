"""`--save DIR`: bodies as files, complete or not there, continued where a run was cut short."""

import os
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from attrs import define, evolve, field
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.messages import Head
from evserve.fetch.refusals import SaveFailed
from evserve.fetch.request import Request
from evserve.fetch.seam import Arrival
from evserve.fetch.sinks.names import file_name
from evserve.fetch.sinks.partial import (
    NOT_SATISFIABLE,
    PARTIAL,
    Partial,
    Validator,
    read_partial,
    write_notes,
)
from evserve.fetch.url import parse_url


_IDENTITY = (b"Accept-Encoding", b"identity")  # ranges of a compressed form fit nothing
_PIECE = 1024 * 1024
_SUCCESS = range(200, 300)
_SMALL = 64 * 1024  # bytes; less is sooner fetched again than continued


@lru_cache(maxsize=4096)
def _relative(text: str) -> str:
    return file_name(parse_url(text))


@define(eq=False)
class Download:
    """A file being written; it gets its name when it is complete."""

    _files: "FileStore"
    _target: Path
    _part: Path
    _notes: Path
    _out: BinaryIO
    _is_resumable: bool
    _is_closed: bool = field(default=False, init=False)

    def write(self, data: bytes) -> None:
        """See seam.Copy."""
        self._out.write(data)

    def close(self, error: Exception | None) -> None:
        """See seam.Copy."""
        self._is_closed = True
        self._files.busy.discard(self._target)
        try:
            self._out.close()
            if error is None:
                self._part.replace(self._target)
        except OSError:
            self._discard()
            raise
        if error is None and self._is_resumable:
            self._notes.unlink(missing_ok=True)
        elif error is not None and not self._is_resumable:
            self._discard()

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def hash_again(self, arrival: Arrival, source: BinaryIO, clock: IReactorTime) -> None:
        """Hash what is there already, a piece a turn, before the rest is taken."""
        if self._is_closed:
            source.close()
            return
        piece = source.read(_PIECE)
        arrival.hasher.update(piece)
        arrival.count += len(piece)
        if piece:
            clock.callLater(0, self.hash_again, arrival, source, clock)
        else:
            source.close()
            assert arrival.exchange is not None
            arrival.exchange.resume()


@define(eq=False)
class FileStore:
    """Saves what was fetched below `folder`.

    Errors of the disk fail the URL, not the run.  resumes: whether half a file may be continued.
    """

    folder: Path
    _clock: IReactorTime
    _resumes: bool = True
    busy: set[Path] = field(factory=set, init=False)
    _made: set[Path] = field(factory=set, init=False)  # folders

    def prepare(self, request: Request, text: str) -> Request:
        """See seam.Store: ask for the rest if the beginning is there."""
        headers = request.headers.without(b"accept-encoding", b"range", b"if-range")
        partial = self._partial(text)
        more = () if partial is None else partial.headers
        return evolve(request, headers=headers.plus(_IDENTITY, *more))

    def open(self, arrival: Arrival, head: Head) -> Download | None:
        """See seam.Store."""
        is_rest = b"range" in arrival.sent.headers
        if head.status in (PARTIAL, NOT_SATISFIABLE) and is_rest:
            return self._continue(arrival, head)
        if head.status not in _SUCCESS:
            return None
        if head.status == PARTIAL:
            raise SaveFailed("the server sent a part where the whole was asked for")
        return self._begin(arrival, head)

    def _begin(self, arrival: Arrival, head: Head) -> Download:
        target, part, notes = self._paths(arrival.text)
        if target.parent not in self._made:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(target.parent)
        is_small = head.length is not None and head.length < _SMALL
        validator = None if is_small else Validator.of(head)
        if target in self.busy:  # the same URL, twice at once
            part = part.with_name(f"{part.name}.{id(arrival):x}")
            validator = None
        out = part.open("wb")
        if validator is None:
            notes.unlink(missing_ok=True)
        else:
            write_notes(notes, validator)
        return self._download(arrival, out, part, is_resumable=validator is not None)

    def _continue(self, arrival: Arrival, head: Head) -> Download:
        target, part, notes = self._paths(arrival.text)
        partial = self._partial(arrival.text)
        if head.status == NOT_SATISFIABLE or partial is None or not partial.continues(head):
            arrival.again = True
            if target not in self.busy:
                notes.unlink(missing_ok=True)
            raise SaveFailed("the server does not go on where the file ends")
        download = self._download(arrival, part.open("ab"), part, is_resumable=True)
        if arrival.exchange is not None:
            arrival.exchange.pause()
        download.hash_again(arrival, part.open("rb"), self._clock)
        return download

    def _download(
        self, arrival: Arrival, out: BinaryIO, part: Path, *, is_resumable: bool
    ) -> Download:
        target, _, notes = self._paths(arrival.text)
        self.busy.add(target)
        arrival.path = os.fspath(target)
        return Download(self, target, part, notes, out, is_resumable)

    def _partial(self, text: str) -> Partial | None:
        target, part, notes = self._paths(text)
        if target in self.busy or not self._resumes:
            return None
        return read_partial(part, notes)

    def _paths(self, text: str) -> tuple[Path, Path, Path]:
        target = self.folder / _relative(text)
        return (
            target,
            target.with_name(f"{target.name}.part"),
            target.with_name(f"{target.name}.part.json"),
        )
