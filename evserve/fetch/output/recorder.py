"""Every result, told to all who keep it, in an order that survives kill -9 and power cuts.

With a disk to sync: rows first, then a sync of these and of all that belongs to them, and only
then whoever relies on it. An entry in the journal, an acknowledged event and a line on the screen
all say that a URL is done with.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python import usage

from evserve.fetch.interfaces import Store
from evserve.fetch.job import Result
from evserve.fetch.output.disk import Disk, DiskThread, Place, claim_folder, is_file, sync
from evserve.fetch.output.files import (
    FileStore,
    make_apart,
    make_folder,
    remove_apart,
    remove_left_behind,
)
from evserve.fetch.output.journal import Ends, Entry, Journal, Outputs
from evserve.fetch.output.rows import Done, Outlet, RowFile, outlet
from evserve.fetch.output.warc import Archive
from evserve.interfaces import IHost
from evserve.progress import Bar


_HOSTS = 1000  # counted one by one; a million would need memory
_SHOWN = 20
_OTHERS = "other hosts"


@define
class Tally:
    """Results counted. seconds: what they would have taken one after another."""

    fetched: int = 0
    failed: int = 0
    received: int = 0  # bytes
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All of them."""
        return self.fetched + self.failed

    def add(self, result: Result) -> None:
        """Count one."""
        if result.error is None:
            self.fetched += 1
        else:
            self.failed += 1
        self.received += result.content_length
        self.seconds += result.elapsed


@define(eq=False)
class Summary:
    """Counts the results of a run."""

    total: Tally = field(factory=Tally)
    hosts: dict[str, Tally] = field(factory=dict)

    def add(self, result: Result) -> None:
        """Count one."""
        self.total.add(result)
        name = host_of(result.final_url or result.url)
        tally = self.hosts.get(name)
        if tally is None:
            if len(self.hosts) >= _HOSTS:
                name = _OTHERS
            tally = self.hosts.setdefault(name, Tally())
        tally.add(result)

    def lines(self, wall: float, done_before: int = 0) -> Iterator[str]:
        """Yield the summary for people; wall: seconds that the run took."""
        total = self.total
        yield (
            f"fetched {total.fetched} of {total.count} URLs, {size(total.received)}, "
            f"in {wall:.2f} s; one after another: {total.seconds:.2f} s{_times(total, wall)}"
        )
        if done_before:
            yield f"{done_before} URLs were done before, says the journal"
        if total.count:
            yield from self._table()

    def _table(self) -> Iterator[str]:
        ranked = sorted(self.hosts.items(), key=lambda item: -item[1].count)
        width = max(len("host"), *(len(name) for name, _ in ranked[:_SHOWN]))
        yield f"{'host':{width}}  {'fetched':>8}  {'failed':>7}  {'received':>10}  {'seconds':>8}"
        for name, tally in ranked[:_SHOWN]:
            yield (
                f"{name:{width}}  {tally.fetched:8}  {tally.failed:7}  "
                f"{size(tally.received):>10}  {tally.seconds:8.2f}"
            )
        if len(ranked) > _SHOWN:
            yield f"and {len(ranked) - _SHOWN} more hosts"


def host_of(url: str) -> str:
    """Return the host and port of a URL, as far as there are any."""
    parts = url.split("/", 3)
    return (parts[2] if len(parts) > 2 else "") or "-"  # noqa: PLR2004 - scheme, nothing, host


def size(count: int) -> str:
    """Return a number of bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004 - SI
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _times(total: Tally, wall: float) -> str:
    return f" ({total.seconds / wall:.1f} times as long)" if total.seconds > wall > 0 else ""


def line_of(result: Result) -> str:
    """Return what is said about a URL: how many bytes it gave, and its status."""
    if result.status_code is None or (result.error and not result.error.startswith("BadStatus")):
        return f"{result.url} failed: {result.error}"
    return f"{result.url} {result.content_length} bytes received, status {result.status_code}"


def _harmless(line: str) -> str:
    """Return a line without what a terminal would obey: URLs come from anybody."""
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


@define(eq=False)
class Screen:
    """Lines on standard output; a bar if standard error is a terminal.

    lines: whether there is a line for each URL, which JSON on standard output would not bear.
    """

    outlet: Outlet
    _bar: Bar | None = None
    _lines: bool = True

    def show(self, results: Iterable[Result], done: Done) -> None:
        """Print a line for each URL; `done` is told when they are out, or the error."""
        if self._lines:
            self.say((_harmless(line_of(result)) for result in results), done)
        else:
            done(None)

    def say(self, lines: Iterable[str], done: Done) -> None:
        """Print lines; `done` is told when they are out, or the error."""
        if self._bar is not None:
            self._bar.erase()
        text = "".join(f"{line}\n" for line in lines)
        self.outlet.write(text.encode(errors="backslashreplace"), done)

    def move(self, done: int, total: int | None, note: str) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(done, total, note)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


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


_log = Logger(namespace="evserve.fetch")


def open_recorder(options: usage.Options, host: IHost) -> Recorder:
    """Open what is written to; raises OSError, JournalError, MissingWarcio."""
    journal = Journal.open(Path(options["journal"])) if options["journal"] else None
    # Elsewhere in two runs is elsewhere: a name means nothing without its folder.
    outputs = Outputs(_absolute(options["output"]), _absolute(options["warc"]))
    if journal is not None:
        ends = journal.ends(outputs)
    else:  # events whose results are there are acknowledged: nobody will make these again
        ends = Ends(None, None) if options["queue"] else Ends()
    # twistd turns what is printed into log lines later; results are none.
    out = _standard_output()
    rows_on_stdout = options["output"] == "-"
    # Rows and a bar on one terminal would be neither.
    bar = None if rows_on_stdout and out.isatty() else _bar()
    screen = Screen(outlet(out, host.reactor), bar, lines=not rows_on_stdout)
    recorder = Recorder(
        screen,
        _say_on(sys.stderr) if rows_on_stdout else screen.say,
        rows=RowFile(screen.outlet) if rows_on_stdout else _rows(options["output"], host, ends),
        archive=_archive(options, host, ends),
        journal=journal,
    )
    if journal is not None:  # only now, because opening may have failed
        journal.begin(outputs, recorder.ends())
        # Rows of a run that the journal has never heard of would stay, and be made again.
        sync([journal.descriptor, _parent(options["journal"])])
    if options["journal"] or options["queue"]:  # somebody relies on what is kept
        recorder.disk = _disk(options, host)
        recorder.places = tuple(_places(recorder))
    return recorder


def stores_for(options: usage.Options, host: IHost, recorder: Recorder) -> list[Store]:
    """Return what keeps bodies; raises OSError."""
    stores: list[Store] = []
    if options["save"]:
        folder = Path(options["save"])
        entries = make_folder(folder)
        if recorder.disk is not None:
            recorder.disk.touched(*entries)
        remove_left_behind(folder)
        apart = None if claim_folder(folder) else make_apart(folder)
        if apart is not None:
            _log.info("{folder}: another run saves there, so nothing is continued", folder=folder)
            host.reactor.addSystemEventTrigger("after", "shutdown", remove_apart, apart)
        # An archive wants whole responses.
        resumes = recorder.archive is None and apart is None
        stores.append(FileStore(folder, host.reactor, resumes, recorder.disk, apart))
    if recorder.archive is not None:
        stores.append(recorder.archive)
    return stores


def _disk(options: usage.Options, host: IHost) -> Disk:
    disk = Disk(host.reactor, DiskThread(host.reactor))
    for name in ("output", "warc", "journal"):
        if options[name] not in (None, "-"):  # files that may be new, and their names with them
            disk.touched(_parent(options[name]))
    return disk


def _parent(name: str) -> str:
    return str(Path(name).absolute().parent)


def _places(recorder: Recorder) -> Iterator[Place]:
    """Yield the descriptors of outputs that are files, not pipes or terminals."""
    rows = None if recorder.rows is None else recorder.rows.outlet
    for output in (rows, recorder.archive, recorder.journal):
        if output is not None and is_file(output.descriptor):
            yield output.descriptor


def _absolute(name: str | None) -> str | None:
    return name if name in (None, "-") else str(Path(name).absolute())


def _rows(name: str | None, host: IHost, ends: Ends) -> RowFile | None:
    return RowFile.open(Path(name), host.reactor, ends.output) if name is not None else None


def _archive(options: usage.Options, host: IHost, ends: Ends) -> Archive | None:
    if not options["warc"]:
        return None
    reactor: Any = host.reactor

    def in_thread(*call: Any) -> Any:
        return deferToThreadPool(reactor, reactor.getThreadPool(), *call)

    return Archive(Path(options["warc"]), in_thread, options["user-agent"], ends.warc)


def _standard_output() -> BinaryIO:
    if sys.stdout is None:
        return open(os.devnull, "wb", buffering=0)  # noqa: PTH123 - open to the end
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)


def _say_on(stream: TextIO) -> Callable[[Iterable[str], Done], None]:
    def say(lines: Iterable[str], done: Done) -> None:
        stream.writelines(f"{line}\n" for line in lines)
        done(None)

    return say


def _bar() -> Bar | None:
    return Bar(sys.stderr, "fetching") if sys.stderr is not None and sys.stderr.isatty() else None
