"""From options to what keeps the results; files are opened, and so refused, before the start."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python import usage

from evserve.fetch.recorder import Recorder
from evserve.fetch.screen import Screen
from evserve.fetch.seam import Store
from evserve.fetch.sinks.apart import make_apart, remove_apart, remove_left_behind
from evserve.fetch.sinks.disk import Disk, DiskThread, Place, sync
from evserve.fetch.sinks.files import FileStore
from evserve.fetch.sinks.folders import make_folder
from evserve.fetch.sinks.journal import Ends, Journal, Outputs
from evserve.fetch.sinks.opening import claim_folder, is_file
from evserve.fetch.sinks.outlets import Done, outlet
from evserve.fetch.sinks.rows import RowFile
from evserve.fetch.sinks.warc import Archive
from evserve.interfaces import IHost
from evserve.progress import Bar


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
