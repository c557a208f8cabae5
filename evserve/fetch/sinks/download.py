"""A body on its way into a file, which gets its name when it is complete."""

import os
from contextlib import suppress
from typing import BinaryIO

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.seam import Arrival
from evserve.fetch.sinks.disk import Disk
from evserve.fetch.sinks.writing import write_all


_PIECE = 1024 * 1024


@frozen
class Places:
    """The paths that belong to a URL."""

    folder: str
    target: str
    part: str
    notes: str


@define(eq=False)
class Download:
    """A file being written.

    part: where; `busy` has it until this is over.  disk: what syncs it; None if nothing does.
    """

    _places: Places
    _part: str
    _out: BinaryIO  # unbuffered: what was received survives this process
    _busy: set[str]
    _disk: Disk | None
    _is_resumable: bool
    _is_closed: bool = field(default=False, init=False)

    def write(self, data: bytes) -> None:
        """See seam.Copy."""
        write_all(self._out, data, self._part)

    def close(self, error: Exception | None) -> Deferred[None] | None:
        """See seam.Copy."""
        self._is_closed = True
        try:
            self._out.close()
        except OSError as trouble:
            self._release()
            self._discard()
            trouble.filename = self._part
            raise
        disk = self._disk
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
            remove(self._places.notes)
        if self._disk is not None:
            self._disk.touched(self._places.folder)

    def _release(self) -> None:
        self._busy.discard(self._part)

    def _discard(self) -> None:
        if self._part == self._places.part:  # the notes are about no other
            remove(self._places.notes)
        remove(self._part)

    def hash_again(self, arrival: Arrival, source: BinaryIO, clock: IReactorTime) -> None:
        """Hash what is there already, a piece a turn, before the rest is taken."""
        if self._is_closed:
            source.close()
            return
        assert arrival.exchange is not None
        try:
            piece = source.read(_PIECE)
        except OSError as error:
            source.close()
            self._is_resumable = False
            error.filename = self._part
            arrival.exchange.cancel(error)
            return
        arrival.hasher.update(piece)
        arrival.count += len(piece)
        if piece:
            clock.callLater(0, self.hash_again, arrival, source, clock)
        else:
            source.close()
            arrival.exchange.resume()


def remove(path: str) -> None:
    """Remove a file if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)
