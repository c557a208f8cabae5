"""Records every result in an order that survives kill -9 and power cuts, and sums up.

If something relies on the results (a journal, a queue), rows come first, then a sync of these and
of all that belongs to them, and only then what relies on them: an entry in the journal, an
acknowledged event and a line on the terminal all say that a URL is done.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python import usage

from evserve.fetch.errors import BadStatus, error_text
from evserve.fetch.interfaces import Sink
from evserve.fetch.output.disk import (
    Disk,
    DiskThread,
    SyncTarget,
    is_regular_file,
    lock_folder,
    sync_now,
)
from evserve.fetch.output.files import (
    FileSink,
    make_folder,
    make_private_folder,
    remove_private_folder,
    remove_stale_folders,
)
from evserve.fetch.output.journal import Journal, JournalEntry, OutputPaths, OutputSizes
from evserve.fetch.output.rows import LineWriter, OnDone, RowFile, line_writer
from evserve.fetch.output.warc import WARCSink
from evserve.fetch.result import Result
from evserve.interfaces import IHost
from evserve.progress import Bar


_log = Logger(namespace="evserve.fetch")

_MAX_HOSTS = 1000  # with counts of their own, to bound memory
_SHOWN_HOSTS = 20
_OTHER_HOSTS = "other hosts"


@define
class Tally:
    """Counts of results. seconds: what they would have taken sequentially."""

    fetched: int = 0
    failed: int = 0
    received: int = 0  # bytes
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All results."""
        return self.fetched + self.failed

    def add(self, result: Result) -> None:
        """Count a result."""
        if result.error is None:
            self.fetched += 1
        else:
            self.failed += 1
        self.received += result.content_length
        self.seconds += result.elapsed


@define(eq=False)
class Summary:
    """Counts of a run by host."""

    hosts: dict[str, Tally] = field(factory=dict)

    @property
    def total(self) -> Tally:
        """The counts of all hosts together."""
        tallies = self.hosts.values()
        return Tally(
            sum(each.fetched for each in tallies),
            sum(each.failed for each in tallies),
            sum(each.received for each in tallies),
            sum(each.seconds for each in tallies),
        )

    def add(self, result: Result) -> None:
        """Count a result."""
        name = _host_of(result.final_url or result.url)
        tally = self.hosts.get(name)
        if tally is None:
            if len(self.hosts) >= _MAX_HOSTS:
                name = _OTHER_HOSTS
            tally = self.hosts.setdefault(name, Tally())
        tally.add(result)

    def lines(self, wall: float, done_before: int = 0) -> Iterator[str]:
        """Yield the lines of the summary; wall: seconds that the run took."""
        total = self.total
        times = f" ({total.seconds / wall:.1f} times as long)" if total.seconds > wall > 0 else ""
        yield (
            f"fetched {total.fetched} of {total.count} URLs, {format_size(total.received)}, "
            f"in {wall:.2f} s; sequential: {total.seconds:.2f} s{times}"
        )
        if done_before:
            yield f"{done_before} URLs were done before, according to the journal"
        if total.count:
            yield from self._table()

    def _table(self) -> Iterator[str]:
        ranked = sorted(self.hosts.items(), key=lambda item: -item[1].count)
        width = max(len("host"), *(len(name) for name, _ in ranked[:_SHOWN_HOSTS]))
        yield f"{'host':{width}}  {'fetched':>8}  {'failed':>7}  {'received':>10}  {'seconds':>8}"
        for name, tally in ranked[:_SHOWN_HOSTS]:
            yield (
                f"{name:{width}}  {tally.fetched:8}  {tally.failed:7}  "
                f"{format_size(tally.received):>10}  {tally.seconds:8.2f}"
            )
        if len(ranked) > _SHOWN_HOSTS:
            yield f"and {len(ranked) - _SHOWN_HOSTS} more hosts"


def _host_of(url: str) -> str:
    """Return the host and port of a URL; "-" for what has none."""
    parts = url.split("/", 3)
    return (parts[2] if len(parts) > 2 else "") or "-"  # noqa: PLR2004 - scheme, nothing, host


def format_size(count: int) -> str:
    """Return a number of bytes with an SI unit."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004 - SI
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


@define(eq=False)
class Terminal:
    """Lines on standard output, and a progress bar if standard error is a terminal.

    lines: whether to print a line for each URL; not with JSON on standard output.
    """

    writer: LineWriter
    _bar: Bar | None = None
    _lines: bool = True

    def print_results(self, results: Iterable[Result], on_done: OnDone) -> None:
        """Print a line for each result; `on_done` gets None or the error."""
        if self._lines:
            self.print_lines((_printable(result_line(result)) for result in results), on_done)
        else:
            on_done(None)

    def print_lines(self, lines: Iterable[str], on_done: OnDone) -> None:
        """Print lines; `on_done` gets None or the error."""
        if self._bar is not None:
            self._bar.erase()
        text = "".join(f"{line}\n" for line in lines)
        self.writer.write(text.encode(errors="backslashreplace"), on_done)

    def update_bar(self, done: int, total: int | None, note: str) -> None:
        """Draw the progress bar."""
        if self._bar is not None:
            self._bar.update(done, total, note)

    def stop(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def result_line(result: Result) -> str:
    """Return the line of a URL: its bytes and status, or its error."""
    error = result.error
    if error is not None and (result.status_code is None or not isinstance(error, BadStatus)):
        return f"{result.url} failed: {error_text(error)}"
    return f"{result.url} {result.content_length} bytes received, status {result.status_code}"


def _printable(line: str) -> str:
    """Escape control characters, which a URL might send to the terminal."""
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


OnKept = Callable[[bool], object]
_READER_TIMEOUT = 1.0  # seconds


def write_error_message(error: OSError) -> str:
    """Return one line about results that cannot be written."""
    return f"{error.filename or 'cannot write results'}: {error.strerror}"


@define
class _Recording:
    """A result on its way through the recorder; `on_kept` gets whether it is kept."""

    key: str
    result: Result
    on_kept: OnKept
    entry: JournalEntry | None = None


@define(eq=False)
class Recorder:
    """Records results, those of a turn of the reactor together.

    clock: the reactor.  print_summary: prints lines.  on_error: called once if recording fails;
    a service sets it.  disk: syncs `targets` before anything relies on a result; None
    if nothing does.
    """

    _clock: IReactorTime
    terminal: Terminal
    print_summary: Callable[[Iterable[str], OnDone], None]
    on_error: Callable[[OSError], object] = lambda _: None
    rows: RowFile | None = None
    warc: WARCSink | None = None
    journal: Journal | None = None
    disk: Disk | None = None
    targets: Sequence[SyncTarget] = ()
    summary: Summary = field(factory=Summary)
    is_closing: bool = field(default=False, init=False)  # keeps nothing more
    _has_failed: bool = field(default=False, init=False)
    _batch: list[_Recording] = field(factory=list, init=False)  # of this turn of the reactor
    _batches: int = field(default=0, init=False)  # on their way
    _settled: list[Deferred[None]] = field(factory=list, init=False)

    def record(self, key: str, result: Result, on_kept: OnKept) -> None:
        """Keep the result of the URL that the journal knows as `key`.

        `on_kept` gets whether it is kept; at once if nothing is kept any more.
        """
        if self.is_closing:
            on_kept(False)
            return
        self.summary.add(result)
        if not self._batch:
            self._clock.callLater(0, self._commit)
        self._batch.append(_Recording(key, result, on_kept))

    async def settle(self) -> None:
        """Keep nothing more; wait until the results so far are kept."""
        self.is_closing = True
        self._commit()
        if self._batches:
            settled: Deferred[None] = Deferred()
            self._settled.append(settled)
            await settled
        if self.disk is not None:
            self.disk.include(*self.targets)  # for the last lines of the journal
            await self.disk.flush()

    @contextmanager
    def reader_timeout(self, clock: IReactorTime) -> Iterator[None]:
        """Within this context, stop waiting for a reader of our output after a second."""
        timer = clock.callLater(_READER_TIMEOUT, self._abandon)
        try:
            yield
        finally:
            if timer.active():
                timer.cancel()

    async def sum_up(self, wall: float) -> None:
        """Print the summary; wall: seconds that the run took."""
        before = 0 if self.journal is None else self.journal.finished
        printed: Deferred[OSError | None] = Deferred()
        self.print_summary(self.summary.lines(wall, before), printed.callback)
        if (error := await printed) is not None:
            self._fail(error)

    async def close(self) -> None:
        """Close the files, the archive after its current record."""
        if self.warc is not None:
            await self.warc.close()
        if self.rows is not None:
            self.rows.writer.close()
        if self.journal is not None:
            self.journal.close()

    def sizes(self) -> OutputSizes:
        """Return the sizes of the files."""
        return OutputSizes(
            0 if self.rows is None else self.rows.size,
            0 if self.warc is None else self.warc.size,
        )

    def _commit(self) -> None:
        """Record the results of a turn of the reactor together."""
        batch, self._batch = self._batch, []
        if batch:
            self._write_rows(batch)

    # The steps of a batch. One that fails goes to the last step at once.

    def _write_rows(self, batch: list[_Recording]) -> None:
        self._batches += 1
        lines = []
        for each in batch:
            if self.rows is not None:
                lines.append(self.rows.encode(each.result.as_json()))
            if self.journal is not None:
                each.entry = JournalEntry(each.key, self.sizes(), each.result.is_final)
        if self.rows is None:
            self._sync(batch, None)
        else:
            self.rows.writer.write(b"".join(lines), partial(self._sync, batch))

    def _sync(self, batch: list[_Recording], error: OSError | None) -> None:
        if error is not None:
            self._finish(batch, error)
        elif self.disk is None:
            self._announce(batch)
        else:
            synced = self.disk.sync(*self.targets).addCallbacks(
                lambda _: self._announce(batch),
                lambda failure: self._finish(batch, failure.value),
            )
            synced.addErrback(lambda failure: _log.failure("cannot record results", failure))

    def _announce(self, batch: list[_Recording]) -> None:
        if self.journal is not None:
            try:
                self.journal.add(each.entry for each in batch if each.entry is not None)
            except OSError as error:
                self._finish(batch, error)
                return
        results = [each.result for each in batch]
        self.terminal.print_results(results, partial(self._finish, batch))

    def _finish(self, batch: list[_Recording], error: OSError | None) -> None:
        if error is not None:
            self._fail(error)
        is_kept = not self._has_failed
        for each in batch:
            each.on_kept(is_kept)
        self._batches -= 1
        if not self._batches:
            settled, self._settled = self._settled, []
            for deferred in settled:
                deferred.callback(None)

    def _fail(self, error: OSError) -> None:
        self.is_closing = True
        if not self._has_failed:
            self._has_failed = True
            self.on_error(error)

    def _abandon(self) -> None:
        self.terminal.writer.abandon()
        if self.rows is not None:
            self.rows.writer.abandon()


# From options to outputs. Files are opened, and refused, before the service starts.


def open_recorder(options: usage.Options, host: IHost) -> Recorder:
    """Open all outputs except `--save`; raises OSError, JournalError and MissingWarcio."""
    journal = Journal.open(Path(options["journal"])) if options["journal"] else None
    # Absolute, because the next run may begin in another folder.
    paths = OutputPaths(_absolute(options["output"]), _absolute(options["warc"]))
    if journal is not None:
        sizes = journal.sizes(paths)
    elif options["queue"]:  # events with results were acknowledged and will not come again
        sizes = OutputSizes(None, None)
    else:
        sizes = OutputSizes()
    # A descriptor of our own: twistd turns later prints into log lines.
    out = _standard_output()
    rows_on_stdout = options["output"] == "-"
    bar = None
    if sys.stderr is not None and sys.stderr.isatty() and not (rows_on_stdout and out.isatty()):
        bar = Bar(sys.stderr, "fetching")
    terminal = Terminal(line_writer(out, host.reactor), bar, lines=not rows_on_stdout)
    rows = None
    if rows_on_stdout:
        rows = RowFile(terminal.writer)
    elif options["output"] is not None:
        rows = RowFile.open(Path(options["output"]), host.reactor, sizes.output)
    recorder = Recorder(
        host.reactor,
        terminal,
        partial(_print_to, sys.stderr) if rows_on_stdout else terminal.print_lines,
        rows=rows,
        warc=_open_warc(options, host, sizes) if options["warc"] else None,
        journal=journal,
    )
    if journal is not None:  # last, because opening the others may fail
        journal.begin(paths, recorder.sizes())
        # Before the first row: without this line, a resumed run would not cut off its rows.
        sync_now([journal.descriptor, _parent(options["journal"])])
    if options["journal"] or options["queue"]:  # which rely on what is kept
        recorder.disk = Disk(host.reactor, DiskThread(host.reactor))
        for name in ("output", "warc", "journal"):
            if options[name] not in (None, "-"):  # the file may be new in its folder
                recorder.disk.include(_parent(options[name]))
        recorder.targets = tuple(_sync_targets(recorder))
    return recorder


def open_sinks(options: usage.Options, host: IHost, recorder: Recorder) -> list[Sink]:
    """Open what keeps bodies; raises OSError."""
    sinks: list[Sink] = []
    if options["save"]:
        folder = Path(options["save"])
        parents = make_folder(folder)
        if recorder.disk is not None:
            recorder.disk.include(*parents)
        remove_stale_folders(folder)
        private = None if lock_folder(folder) else make_private_folder(folder)
        if private is not None:
            _log.info("{folder}: another run saves there, so no file is resumed", folder=folder)
            host.reactor.addSystemEventTrigger("after", "shutdown", remove_private_folder, private)
        # An archive needs whole responses.
        resumes = recorder.warc is None and private is None
        sinks.append(FileSink(folder, host.reactor, resumes, recorder.disk, private))
    if recorder.warc is not None:
        sinks.append(recorder.warc)
    return sinks


def _open_warc(options: usage.Options, host: IHost, sizes: OutputSizes) -> WARCSink:
    reactor: Any = host.reactor

    def in_thread(*call: Any) -> Any:
        return deferToThreadPool(reactor, reactor.getThreadPool(), *call)

    path, user_agent = Path(options["warc"]), options["user-agent"]
    return WARCSink(path, in_thread, user_agent, sizes.warc, options["warc-omit"])


def _sync_targets(recorder: Recorder) -> Iterator[SyncTarget]:
    """Yield the descriptors of outputs that are files, not pipes or terminals."""
    rows = None if recorder.rows is None else recorder.rows.writer
    for output in (rows, recorder.warc, recorder.journal):
        if output is not None and is_regular_file(output.descriptor):
            yield output.descriptor


def _absolute(name: str | None) -> str | None:
    return name if name in (None, "-") else str(Path(name).absolute())


def _parent(name: str) -> str:
    return str(Path(name).absolute().parent)


def _standard_output() -> BinaryIO:
    if sys.stdout is None:
        return open(os.devnull, "wb", buffering=0)  # noqa: PTH123 - open to the end
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)


def _print_to(stream: TextIO | None, lines: Iterable[str], on_done: OnDone) -> None:
    if stream is not None:  # it is not closed
        with suppress(OSError):  # as for the log, there is nowhere to report it
            stream.writelines(f"{line}\n" for line in lines)
    on_done(None)
