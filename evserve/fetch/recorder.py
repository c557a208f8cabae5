"""Every result, told to all who keep it, in an order that survives kill -9 and power cuts.

With a disk to sync: rows first, then a sync of these and of all that belongs to them, and only
then whoever relies on it. An entry in the journal, an acknowledged event and a line on the screen
all say that a URL is done with.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field

from evserve.fetch.result import Result
from evserve.fetch.screen import Screen
from evserve.fetch.sinks.disk import Disk, Place
from evserve.fetch.sinks.journal import Ends, Entry, Journal
from evserve.fetch.sinks.rows import RowFile
from evserve.fetch.sinks.warc import Archive
from evserve.fetch.summary import Summary


Kept = Callable[[bool], object]


def _ignore(error: OSError) -> None:
    """Nobody is interested yet."""


@define
class Given:
    """A result to be kept; `kept` is told whether it is."""

    key: str
    result: Result
    kept: Kept


@define(eq=False)
class Recorder:
    """Keeps results; `broken` is told once if that cannot be done any more.

    disk: syncs what is kept, by its `places`; None if nobody relies on it.
    """

    screen: Screen
    summarise: Callable[[str], object]  # told each line of the summary
    broken: Callable[[OSError], None] = _ignore
    rows: RowFile | None = None
    archive: Archive | None = None
    journal: Journal | None = None
    disk: Disk | None = None
    places: Sequence[Place] = ()
    summary: Summary = field(factory=Summary)
    is_over: bool = field(default=False, init=False)  # what is given from now on is not kept
    _is_broken: bool = field(default=False, init=False)
    _gathered: list[Given] = field(factory=list, init=False)

    def record(self, key: str, result: Result, kept: Kept) -> None:
        """Keep the result of the URL that the journal knows as `key`.

        `kept` is told when it is kept, or that it will not be, maybe at once.
        """
        if self.is_over:
            kept(False)
            return
        self.summary.add(result)
        if self.disk is None:
            kept(self._tried(self._show, result) is None)
            return
        if not self._gathered:
            self.disk.clock.callLater(0, self._commit)
        self._gathered.append(Given(key, result, kept))

    async def settle(self) -> None:
        """Keep nothing more; wait until what was given is kept."""
        self.is_over = True
        if self.disk is not None:
            self._commit()
            await self.disk.idle()
            self.disk.touched(*self.places)  # the last lines of the journal
            await self.disk.idle()

    async def close(self) -> None:
        """Close the files; what is being archived is waited for."""
        if self.archive is not None:
            await self.archive.close()
        if self.rows is not None:
            self.rows.close()
        if self.journal is not None:
            self.journal.close()

    def fail(self, error: OSError) -> None:
        """Keep nothing more: it cannot be done."""
        self.is_over = True
        if not self._is_broken:
            self._is_broken = True
            self.broken(error)

    def _commit(self) -> None:
        """Write what a turn of the reactor has brought, and have it synced."""
        batch, self._gathered = self._gathered, []
        if not batch:
            return
        assert self.disk is not None
        entries: list[Entry] = []
        error = self._tried(self._write, batch, entries)
        if error is not None:
            self._over(batch, error)
        else:
            self.disk.synced(lambda trouble: self._synced(batch, entries, trouble), *self.places)

    def _synced(self, batch: list[Given], entries: list[Entry], error: OSError | None) -> None:
        if error is not None:
            self.fail(error)
        elif self.journal is not None:
            error = self._tried(self.journal.add, entries)
        self._over(batch, error)

    def _show(self, result: Result) -> None:
        if self.rows is not None:
            self.rows.write(self.rows.encode(result.as_json()))
        self.screen.show([result])

    def _write(self, batch: list[Given], entries: list[Entry]) -> None:
        lines = []
        for given in batch:
            if self.rows is not None:
                lines.append(self.rows.encode(given.result.as_json()))
            entries.append(Entry(given.key, self.ends(), given.result.is_final))
        if self.rows is not None:
            self.rows.write(b"".join(lines))

    def ends(self) -> Ends:
        """Return how long the files are."""
        return Ends(
            0 if self.rows is None else self.rows.end,
            0 if self.archive is None else self.archive.end,
        )

    def _over(self, batch: list[Given], error: OSError | None) -> None:
        if error is None:
            error = self._tried(self.screen.show, [given.result for given in batch])
        is_kept = error is None and not self._is_broken
        for given in batch:
            given.kept(is_kept)

    def _tried(self, step: Callable[..., object], *arguments: Any) -> OSError | None:
        try:
            step(*arguments)
        except OSError as error:
            self.fail(error)
            return error
        return None
