"""The access log of a site, written many lines at a time.

`twisted.web` writes each line on its own: to a file that has no buffer, or as a log event that
each observer formats. `gather_log` has a site keep its lines for at most DELAY seconds. What is
written stays the same: the lines, their order and the time of each.
"""

import atexit
from collections.abc import Callable, Sequence
from functools import partial
from io import StringIO, TextIOWrapper
from itertools import groupby
from time import time
from typing import Any, TypeAlias

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import (
    FileLogObserver,
    LogEvent,
    Logger,
    LoggingFile,
    LogPublisher,
    textFileLogObserver,
)
from twisted.python.logfile import BaseLogFile, DailyLogFile, LogFile
from twisted.web.http import HTTPFactory, Request, _escape, combinedLogFormatter


DELAY = 0.05
"""Seconds that a line may wait."""

MOST_WAITING = 128
"""Lines that may wait. Twisted takes 16 KiB of headers, so that a line has at most 64 KiB."""

Row: TypeAlias = tuple[float, str]
"""A time, and a line without its newline."""

_MARK = "@line@"  # in what an observer prints, the place of the line

_log = Logger()


class _Escaped(dict[Any, str]):
    """Maps bytes, or text, to what the log shows of them; has less than a megabyte."""

    def __missing__(self, value: Any) -> str:
        text: str = _escape(value)
        if len(value) <= 256:  # noqa: PLR2004 - see the docstring
            if len(self) >= 1024:  # noqa: PLR2004 - as above
                self.clear()
            self[value] = text
        return text


_escaped = _Escaped()


def combined_line(timestamp: str, request: Any) -> str:
    """Return what `combinedLogFormatter` returns, in a tenth of the time.

    request: one that has the methods of `twisted.web.http.Request`.
    """
    headers = request.requestHeaders._rawHeaders  # noqa: SLF001 - getHeader takes a microsecond
    referrer = headers.get(b"Referer")
    agent = headers.get(b"User-Agent")
    client = request.client
    is_ip = isinstance(client, (IPv4Address, IPv6Address))
    return (
        f'"{_escaped[client.host] if is_ip else "-"}" - - {timestamp} '
        f'"{_escaped[request.method]} {_escaped[request.uri]} {_escaped[request.clientproto]}" '
        f"{request.code} {request.sentLength or '-'} "
        f'"{_escaped[referrer[-1] or b"-"] if referrer else "-"}" '
        f'"{_escaped[agent[-1] or b"-"] if agent else "-"}"'
    )


def _is_plain(cls: Any) -> bool:
    """Return whether `combined_line` may read what methods of a class of requests return."""
    return (
        getattr(cls, "getHeader", None) is Request.getHeader
        and cls.getClientAddress is Request.getClientAddress
    )


def gather_log(factory: HTTPFactory) -> None:
    """Have `factory` write its access log many lines at a time, unless its `log` is its own."""
    if type(factory).log is HTTPFactory.log and "log" not in vars(factory):
        AccessLog(factory)


class AccessLog:
    """Stands for the `log` method of a factory, and writes what waits when the factory stops."""

    def __init__(self, factory: HTTPFactory) -> None:
        self._factory: Any = factory
        self._stop_factory = factory.stopFactory
        vars(factory).update(log=self.log, stopFactory=self._stop)
        self._file: Any = None  # the one that the lines are for
        self._waiting: list[Row] = []
        self._call: Any = None

    def log(self, request: Any) -> None:
        """Add the line of a request."""
        factory = self._factory
        file = factory._logFile  # noqa: SLF001 - the property raises if there is none
        if file is not self._file:
            self.flush()
            self._file = file if factory.numPorts else None
        if self._file is None:  # nothing stops a factory that is not started
            HTTPFactory.log(factory, request)
            return
        formatter = factory._logFormatter  # noqa: SLF001 - only the factory knows it
        if formatter is combinedLogFormatter and _is_plain(type(request)):
            line = combined_line(factory._logDateTime, request)  # noqa: SLF001 - as above
        else:
            line = formatter(factory._logDateTime, request) + ""  # noqa: SLF001 - as above
        waiting = self._waiting
        if not waiting:
            _with_lines.add(self)
            if self._call is None:
                self._call = factory.reactor.callLater(DELAY, self._delay_is_over)
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
        publisher = _publisher(self._file)
        try:
            if publisher is None:
                _write(self._file, [line for _, line in rows])
            else:
                publish_lines(self._file.log, self._file.level, rows)
        except Exception:
            _log.failure("access log: {count} lines were not written", count=len(rows))

    def _stop(self) -> None:
        self.flush()
        self._file = None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._stop_factory()


_with_lines: set[AccessLog] = set()


@atexit.register
def flush_all() -> None:
    """Write what waits in any log, at the end of a process whose reactor has crashed."""
    for each in tuple(_with_lines):
        each.flush()


def _publisher(file: Any) -> LogPublisher | None:
    """Return the publisher of the log events that a file makes of lines; None if it makes none."""
    if type(file) is not LoggingFile or file.closed or file._buffer:  # noqa: SLF001 - half a line
        return None
    publisher = file.log.observer
    return publisher if type(publisher) is LogPublisher else None


def _write(file: Any, lines: list[str], before: str = "", after: str = "\n") -> None:
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
            _write(file, lines, before, after)
    file.flush()
