"""Lines of an access log that are written, or become log events, many at a time.

Twisted formats each event on its own. What the lines have in common is formatted once here.
"""

import atexit
from collections.abc import Callable, Sequence
from functools import partial
from io import StringIO, TextIOWrapper
from itertools import groupby
from time import time
from typing import Any, TypeAlias

from twisted.logger import FileLogObserver, LogEvent, Logger, textFileLogObserver
from twisted.python.logfile import BaseLogFile, DailyLogFile, LogFile


DELAY = 0.05
"""Seconds that a line may wait."""

MOST_WAITING = 128
"""Lines that may wait. Twisted takes 16 KiB of headers, so that a line has at most 64 KiB."""

Row: TypeAlias = tuple[float, str]
"""A time, and a line without its newline."""

_MARK = "@line@"  # in what an observer prints, the place of the line

_log = Logger()


class LineBuffer:
    """Lines that wait, for at most DELAY seconds, to be written together."""

    def __init__(self, reactor: Any, write: Callable[[list[Row]], None]) -> None:
        self._reactor = reactor
        self._write = write
        self._waiting: list[Row] = []
        self._call: Any = None

    def add(self, line: str) -> None:
        """Have a line written soon."""
        waiting = self._waiting
        if not waiting:
            _with_lines.add(self)
            if self._call is None:
                self._call = self._reactor.callLater(DELAY, self._delay_is_over)
        waiting.append((time(), line))
        if len(waiting) >= MOST_WAITING:
            self.flush()

    def _delay_is_over(self) -> None:
        self._call = None
        self.flush()

    def flush(self) -> None:
        """Write the lines that wait; logs what goes wrong."""
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        _with_lines.discard(self)
        try:
            self._write(rows)
        except Exception:
            _log.failure("access log: {count} lines were not written", count=len(rows))

    def stop(self) -> None:
        """Write the lines that wait, and end the timer."""
        self.flush()
        if self._call is not None:
            self._call.cancel()
            self._call = None


_with_lines: set[LineBuffer] = set()


@atexit.register
def flush_all() -> None:
    """Write what waits in any buffer, at the end of a process whose reactor has crashed."""
    for each in tuple(_with_lines):
        each.flush()


def write_lines(file: Any, lines: list[str], before: str = "", after: str = "\n") -> None:
    """Write lines to a file, each between two texts: at once if the file is known to take that."""
    if isinstance(file, BaseLogFile):
        writers = (BaseLogFile.write, LogFile.write, DailyLogFile.write)
        at_once = type(file).write in writers
        if at_once and isinstance(file, LogFile) and file.rotateLength:
            more = sum(map(len, lines)) + len(lines) * len(before + after)
            at_once = file.size + more < file.rotateLength
    else:
        at_once = type(file) in (TextIOWrapper, StringIO)
    if at_once:
        file.write(f"{before}{f'{after}{before}'.join(lines)}{after}")
    else:
        for line in lines:
            file.write(f"{before}{line}{after}")


def publish_lines(logger: Any, level: Any, rows: list[Row]) -> None:
    """Have observers see the events that a LoggingFile would have made of lines.

    An observer that can print them alike with less effort has a method `observe_lines(event,
    rows)`: the event has all but `log_time` and `log_io`, which is its text; these are the rows.

    logger: one whose observer is a LogPublisher.
    """
    publisher = logger.observer
    event = {
        "log_logger": logger,
        "log_level": level,
        "log_namespace": logger.namespace,
        "log_source": logger.source,
        "log_format": "{log_io}",
    }
    if any("\n" in line for _, line in rows):  # of a formatter that is not Twisted's
        rows = [(at, part) for at, line in rows for part in line.split("\n")]
    observers = publisher._observers  # noqa: SLF001 - there is no other way to them
    printers = [printer for each in observers if (printer := _line_printer(each))]
    if len(printers) == len(observers):
        for printer in printers:
            printer(event, rows)
        return
    for at, line in rows:
        publisher({"log_io": line, **event, "log_time": at})


def _line_printer(observer: Any) -> Callable[[LogEvent, Sequence[Row]], None] | None:
    """Return what prints many lines as `observer` prints each; None if it is not known."""
    if (
        type(observer) is FileLogObserver
        and _parts(observer.formatEvent) == _parts(_twistd_text)
        and observer._encoding is None  # noqa: SLF001 - its file takes text
    ):
        return partial(_print_lines, observer)
    printer: Callable[[LogEvent, Sequence[Row]], None] | None
    printer = getattr(observer, "observe_lines", None)
    return printer


_twistd_text: Any = textFileLogObserver(StringIO()).formatEvent


def _parts(function: Any) -> tuple[Any, ...]:
    """Return what makes two functions of one definition equal."""
    cells = getattr(function, "__closure__", None) or ()
    return (getattr(function, "__code__", None), *(each.cell_contents for each in cells))


def _print_lines(observer: Any, event: LogEvent, rows: Sequence[Row]) -> None:
    """Print lines as the observer that `twistd` makes for its log file or the terminal."""
    file = observer._outFile  # noqa: SLF001 - it has no other name
    for second, group in groupby(rows, lambda row: int(row[0])):
        marked = observer.formatEvent({**event, "log_time": second, "log_io": _MARK})
        before, _, after = marked.partition(_MARK)
        lines = [line for _, line in group if line]
        if lines:
            write_lines(file, lines, before, after)
    file.flush()
