"""`--save DIR`: bodies as files, complete or not there, continued where a run was cut short."""

import os
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from attrs import Factory, define, evolve, field
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.refusals import SaveFailed
from evserve.fetch.seam import Arrival
from evserve.fetch.sinks.disk import Disk
from evserve.fetch.sinks.download import Download, Places, remove
from evserve.fetch.sinks.names import file_name
from evserve.fetch.sinks.partial import (
    NOT_SATISFIABLE,
    PARTIAL,
    Partial,
    Validator,
    read_partial,
    write_notes,
)
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import parse_url


_IDENTITY = (b"Accept-Encoding", b"identity")  # ranges of a compressed form fit nothing
_ONLY_IDENTITY = Headers((_IDENTITY,))
_SUCCESS = range(200, 300)
_SMALL = 64 * 1024  # bytes; less is sooner fetched again than continued


@lru_cache(maxsize=4096)
def _places(top: str, text: str) -> Places:
    target = os.path.join(top, file_name(parse_url(text)))
    return Places(os.path.dirname(target), target, f"{target}.part", f"{target}.part.json")


@define(eq=False)
class FileStore:
    """Saves what was fetched below `folder`.

    Errors of the disk fail the URL, not the run.  resumes: whether half a file may be continued.
    disk: what syncs each file before it gets its name; None if a power cut is nobody's worry.
    apart: a folder for parts, where another run writes to the same one; they are not continued.
    """

    folder: Path
    _clock: IReactorTime
    _resumes: bool = True
    disk: Disk | None = None
    _apart: Path | None = None
    busy: set[str] = field(factory=set, init=False)  # parts that are being written
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
        part = self._free_part(places)
        is_first = part == places.part
        is_small = head.length is not None and head.length < _SMALL
        validator = Validator.of(head) if is_first and not is_small else None
        out = open(part, "wb", buffering=0)
        try:
            if validator is not None:
                write_notes(places.notes, validator)
            elif is_first:
                remove(places.notes)
        except OSError as error:
            out.close()
            remove(part)
            remove(places.notes)
            error.filename = places.notes
            raise
        return self._download(arrival, out, part, is_resumable=validator is not None)

    def _free_part(self, places: Places) -> str:
        """Return where to write: the same URL, several times at once, is as many files.

        The names are numbered, so that what a killed run left is written over by a later one.
        """
        part = first = places.part
        if self._apart is not None:
            part = first = os.path.join(self._apart, os.path.basename(places.part))
        number = 1
        while part in self.busy:
            number += 1
            part = f"{first}.{number}"
        return part

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
            if partial is not None:
                remove(places.notes)
            raise SaveFailed("the server does not go on where the file ends")
        source = open(places.part, "rb")
        try:
            out = open(places.part, "ab", buffering=0)
        except OSError:
            source.close()
            raise
        download = self._download(arrival, out, places.part, is_resumable=True)
        if arrival.exchange is not None:
            arrival.exchange.pause()
        self._clock.callLater(0, download.hash_again, arrival, source, self._clock)
        return download

    def _download(
        self, arrival: Arrival, out: BinaryIO, part: str, *, is_resumable: bool
    ) -> Download:
        places = self._places(arrival.text)
        self.busy.add(part)
        arrival.path = places.target
        return Download(places, part, out, self.busy, self.disk, is_resumable)

    def _partial(self, places: Places) -> Partial | None:
        if places.part in self.busy or not self._resumes:
            return None
        return read_partial(places.part, places.notes)

    def _places(self, text: str) -> Places:
        return _places(self._top, text)
