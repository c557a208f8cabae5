"""`--save DIR`: bodies as files, complete or not there, continued where a run was cut short."""

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from attrs import Factory, define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.messages import Head, Headers
from evserve.fetch.refusals import SaveFailed
from evserve.fetch.request import Request
from evserve.fetch.seam import Arrival
from evserve.fetch.sinks.disk import Disk
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
_ONLY_IDENTITY = Headers((_IDENTITY,))
_PIECE = 1024 * 1024
_SUCCESS = range(200, 300)
_SMALL = 64 * 1024  # bytes; less is sooner fetched again than continued


@frozen
class Places:
    """The paths that belong to a URL."""

    folder: str
    target: str
    part: str
    notes: str


@lru_cache(maxsize=4096)
def _places(top: str, text: str) -> Places:
    target = os.path.join(top, file_name(parse_url(text)))
    return Places(os.path.dirname(target), target, f"{target}.part", f"{target}.part.json")


@define(eq=False)
class Download:
    """A file being written; it gets its name when it is complete."""

    _files: "FileStore"
    _places: Places
    _part: str
    _out: BinaryIO  # unbuffered: what was received survives this process
    _is_resumable: bool
    _holds_place: bool  # no second download of the URL, which has a part of its own
    _is_closed: bool = field(default=False, init=False)

    def write(self, data: bytes) -> None:
        """See seam.Copy."""
        written = self._out.write(data)
        if written != len(data):
            view = memoryview(data)[written:]
            while view:
                view = view[self._out.write(view) :]

    def close(self, error: Exception | None) -> Deferred[None] | None:
        """See seam.Copy."""
        self._is_closed = True
        try:
            self._out.close()
        except OSError:
            self._release()
            self._discard()
            raise
        disk = self._files.disk
        if error is not None:
            self._release()
            if not self._is_resumable:
                self._discard()
        elif disk is None:
            self._complete()
        else:
            synced: Deferred[None] = Deferred()
            disk.synced(lambda trouble: self._synced(synced, trouble), self._part)
            return synced
        return None

    def _synced(self, done: Deferred[None], trouble: OSError | None) -> None:
        try:
            if trouble is not None:
                self._release()
                raise trouble
            self._complete()
        except OSError as error:
            done.errback(error)
        else:
            done.callback(None)

    def _complete(self) -> None:
        self._release()
        try:
            os.replace(self._part, self._places.target)
        except OSError:
            self._discard()
            raise
        if self._is_resumable:
            _remove(self._places.notes)
        if self._files.disk is not None:
            self._files.disk.touched(self._places.folder)

    def _release(self) -> None:
        if self._holds_place:
            self._files.busy.discard(self._places.target)

    def _discard(self) -> None:
        _remove(self._places.notes)
        _remove(self._part)

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
    disk: what syncs each file before it gets its name; None if a power cut is nobody's worry.
    """

    folder: Path
    _clock: IReactorTime
    _resumes: bool = True
    disk: Disk | None = None
    busy: set[str] = field(factory=set, init=False)  # targets
    _top: str = field(default=Factory(lambda self: os.fspath(self.folder), True), init=False)
    _made: set[str] = field(factory=set, init=False)  # folders

    def prepare(self, request: Request, text: str) -> Request:
        """See seam.Store: ask for the rest if the beginning is there."""
        partial = self._partial(self._places(text))
        if partial is None and not request.headers.lines:
            return evolve(request, headers=_ONLY_IDENTITY)
        headers = request.headers.without(b"accept-encoding", b"range", b"if-range")
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
        places = self._places(arrival.text)
        self._make(places.folder)
        part = places.part
        is_small = head.length is not None and head.length < _SMALL
        validator = None if is_small else Validator.of(head)
        is_busy = places.target in self.busy
        if is_busy:  # the same URL, twice at once
            part = f"{part}.{id(arrival):x}"
            validator = None
        out = open(part, "wb", buffering=0)
        if validator is not None:
            write_notes(places.notes, validator)
        elif not is_busy:
            _remove(places.notes)
        return self._download(arrival, out, part, is_resumable=validator is not None)

    def _make(self, folder: str) -> None:
        if folder in self._made:
            return
        os.makedirs(folder, exist_ok=True)
        self._made.add(folder)
        if self.disk is not None:
            self.disk.touched(os.path.dirname(folder))

    def _continue(self, arrival: Arrival, head: Head) -> Download:
        places = self._places(arrival.text)
        partial = self._partial(places)
        if head.status == NOT_SATISFIABLE or partial is None or not partial.continues(head):
            arrival.again = True
            if places.target not in self.busy:
                _remove(places.notes)
            raise SaveFailed("the server does not go on where the file ends")
        out = open(places.part, "ab", buffering=0)
        download = self._download(arrival, out, places.part, is_resumable=True)
        if arrival.exchange is not None:
            arrival.exchange.pause()
        download.hash_again(arrival, open(places.part, "rb"), self._clock)
        return download

    def _download(
        self, arrival: Arrival, out: BinaryIO, part: str, *, is_resumable: bool
    ) -> Download:
        places = self._places(arrival.text)
        holds_place = part == places.part
        if holds_place:
            self.busy.add(places.target)
        arrival.path = places.target
        return Download(self, places, part, out, is_resumable, holds_place)

    def _partial(self, places: Places) -> Partial | None:
        if places.target in self.busy or not self._resumes:
            return None
        return read_partial(places.part, places.notes)

    def _places(self, text: str) -> Places:
        return _places(self._top, text)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
