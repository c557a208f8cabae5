"""Every result, told to all who keep it, in an order that survives kill -9 and power cuts.

With a disk to sync: rows first, then a sync of these and of all that belongs to them, and only
then whoever relies on it. An entry in the journal, an acknowledged event and a line on the screen
all say that a URL is done with.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from evserve.fetch.result import Result
from evserve.fetch.screen import Screen
from evserve.fetch.sinks.disk import Disk, Place
from evserve.fetch.sinks.journal import Ends, Entry, Journal
from evserve.fetch.sinks.outlets import Done
from evserve.fetch.sinks.rows import RowFile
from evserve.fetch.sinks.warc import Archive
from evserve.fetch.summary import Summary


Kept = Callable[[bool], object]
_PATIENCE = 1.0  # seconds


def line_on(error: OSError) -> str:
    """Return what to tell a person whose results cannot be written."""
    return f"{error.filename or 'cannot write results'}: {error.strerror}"


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

    say: prints the lines of the summary.  disk: syncs what is kept, by its `places`; None if
    nobody relies on it.
    """

    screen: Screen
    say: Callable[[Iterable[str], Done], None]
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
    _under_way: int = field(default=0, init=False)  # batches
    _settled: list[Deferred[None]] = field(factory=list, init=False)

    def record(self, key: str, result: Result, kept: Kept) -> None:
        """Keep the result of the URL that the journal knows as `key`.

        `kept` is told when it is kept, or that it will not be, maybe at once.
        """
        if self.is_over:
            kept(False)
            return
        self.summary.add(result)
        given = Given(key, result, kept)
        if self.disk is None:
            self._keep([given])
            return
        if not self._gathered:
            self.disk.clock.callLater(0, self._commit)
        self._gathered.append(given)

    async def settle(self) -> None:
        """Keep nothing more; wait until what was given is kept."""
        self.is_over = True
        self._commit()
        if self._under_way:
            settled: Deferred[None] = Deferred()
            self._settled.append(settled)
            await settled
        if self.disk is not None:
            self.disk.touched(*self.places)  # the last lines of the journal
            await self.disk.idle()

    @contextmanager
    def patience(self, clock: IReactorTime) -> Iterator[None]:
        """Have little of it, meanwhile, with a reader who does not read what is written."""
        giving_up = clock.callLater(_PATIENCE, self._give_up)
        try:
            yield
        finally:
            if giving_up.active():
                giving_up.cancel()

    async def sum_up(self, wall: float) -> None:
        """Print the summary; wall: seconds that the run took."""
        before = 0 if self.journal is None else self.journal.finished
        said: Deferred[OSError | None] = Deferred()
        self.say(self.summary.lines(wall, before), said.callback)
        if (error := await said) is not None:
            self.fail(error)

    async def close(self) -> None:
        """Close the files; what is being archived is waited for."""
        if self.archive is not None:
            await self.archive.close()
        if self.rows is not None:
            self.rows.outlet.close()
        if self.journal is not None:
            self.journal.close()

    def fail(self, error: OSError) -> None:
        """Keep nothing more: it cannot be done."""
        self.is_over = True
        if not self._is_broken:
            self._is_broken = True
            self.broken(error)

    def ends(self) -> Ends:
        """Return how long the files are."""
        return Ends(
            0 if self.rows is None else self.rows.end,
            0 if self.archive is None else self.archive.end,
        )

    def _commit(self) -> None:
        """Keep what a turn of the reactor has brought."""
        batch, self._gathered = self._gathered, []
        if batch:
            self._keep(batch)

    # A batch goes through these in turn; what fails in one of them goes to the last.

    def _keep(self, batch: list[Given]) -> None:
        self._under_way += 1
        if self.rows is None:
            self._written(batch, [self._entry(given) for given in batch], None)
            return
        lines, entries = [], []
        for given in batch:
            lines.append(self.rows.encode(given.result.as_json()))
            entries.append(self._entry(given))
        self.rows.outlet.write(b"".join(lines), partial(self._written, batch, entries))

    def _entry(self, given: Given) -> Entry:
        return Entry(given.key, self.ends(), given.result.is_final)

    def _written(self, batch: list[Given], entries: list[Entry], error: OSError | None) -> None:
        if error is not None:
            self._over(batch, error)
        elif self.disk is None:
            self._synced(batch, entries, None)
        else:
            self.disk.synced(partial(self._synced, batch, entries), *self.places)

    def _synced(self, batch: list[Given], entries: list[Entry], error: OSError | None) -> None:
        if error is None and self.journal is not None:
            error = self._noted(self.journal, entries)
        if error is None:
            self.screen.show([given.result for given in batch], partial(self._over, batch))
        else:
            self._over(batch, error)

    def _noted(self, journal: Journal, entries: list[Entry]) -> OSError | None:
        try:
            journal.add(entries)
        except OSError as error:
            return error
        return None

    def _over(self, batch: list[Given], error: OSError | None) -> None:
        if error is not None:
            self.fail(error)
        is_kept = not self._is_broken
        for given in batch:
            given.kept(is_kept)
        self._under_way -= 1
        if not self._under_way:
            settled, self._settled = self._settled, []
            for each in settled:
                each.callback(None)

    def _give_up(self) -> None:
        self.screen.outlet.give_up()
        if self.rows is not None:
            self.rows.outlet.give_up()
