"""Logs: one readable line per event on standard error, or Twisted's JSON.

Standard output is for results, but `twistd` logs there, and begins with lines about itself. So the
host sets its own observer, unless the user asked `twistd` for syslog, a logger or text on standard
output. It opens log files too: `twistd` would cut one into pieces of 1 MB and keep them all, and
could not open it again after logrotate has moved it.

asyncio and its libraries log by the standard library's `logging`. `take_records` makes events of
what no handler there takes.
"""

import logging
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from json import dumps
from pathlib import Path, PurePath
from typing import Any, TextIO

from attrs import frozen
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    eventAsJSON,
    eventAsText,
    formatEventAsClassicLogText,
)
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer


# Twisted's lines that say nothing, or less than a line of evserve about the same thing. A factory
# or protocol that logs its own port has a log prefix that begins with "evserve".
_NOISE = re.compile(
    r"evserve \w+( \(\w+\))* starting on |\((TCP|UNIX|TLS|UDP) Port .* Closed\)$"
    r"|(Starting|Stopping) factory |Main loop terminated|Unable to write to plugin cache"
)

# In what is printed of an event, the places of its time and its text.
_TIME_MARK, _LINE_MARK = "@time@", "@line@"

_PLAIN_KEYS = ("log_time", "log_level", "log_namespace")

_LEVELS = {
    logging.CRITICAL: LogLevel.critical,
    logging.ERROR: LogLevel.error,
    logging.WARNING: LogLevel.warn,
}


def logs_to_terminal(twistd: Mapping[str, Any]) -> bool:
    """Return whether the log goes to standard error."""
    elsewhere = twistd.get("logfile") or twistd.get("syslog") or twistd.get("logger")
    return bool(twistd.get("nodaemon")) and not elsewhere


class LogFile:
    """A log file that other programs may move, truncate or delete at any time."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        self._descriptor = self._open(0o666)

    def _open(self, mode: int) -> int:
        # With O_APPEND, so that a file that was truncated (logrotate's copytruncate) grows from 0.
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode)

    def write(self, text: str) -> None:
        os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def reopen(self) -> None:
        """Go on in the file that has the path now, or in a new one; raises OSError.

        A new file has at most the permissions of the one before.
        """
        opened = self._open(stat.S_IMODE(os.fstat(self._descriptor).st_mode))
        # The number stays the same: another thread may be writing to it at this moment.
        os.dup2(opened, self._descriptor, inheritable=False)
        os.close(opened)


def open_log_file(twistd: Mapping[str, Any]) -> LogFile | None:
    """Open and return the file that `twistd` was told to log to; None if it logs elsewhere."""
    name: str | None = twistd.get("logfile")
    if _is_left_to_twisted(twistd) or name == "-" or (not name and twistd["nodaemon"]):
        return None
    return LogFile(name or "twistd.log")


def _is_left_to_twisted(twistd: Mapping[str, Any]) -> bool:
    # `twist`, which is never a daemon, has options of its own for the log.
    return bool(twistd.get("logger") or twistd.get("syslog")) or "nodaemon" not in twistd


def make_observer(
    twistd: Mapping[str, Any], log_format: str, log_file: LogFile | None
) -> ILogObserver | None:
    """Return the observer to log with; None leaves logging to `twistd`."""
    if _is_left_to_twisted(twistd):
        return None
    stream: Any = log_file
    if log_file is not None:
        if log_format == "text":
            return _FileObserver(stream, formatEventAsClassicLogText, drops_noise=False)
    elif twistd.get("logfile") != "-":
        stream = sys.stderr
    elif log_format == "json":
        stream = sys.stdout
    else:
        return None
    return file_observer(stream, log_format)


def take_records() -> None:
    """From now on, log the records of `logging` that have no handler: warnings and what is worse.

    A program that configures handlers (`logging.basicConfig`) keeps them, and its format.
    """
    logging.lastResort = _RecordHandler(logging.WARNING)


class _RecordHandler(logging.Handler):
    """Makes an event of each record, with the name of its logger as the namespace."""

    _is_emitting = False  # whether the thread is that has the handler's lock

    @override
    def emit(self, record: logging.LogRecord) -> None:
        # `twistd --logger twisted.logger.STDLibLogObserver` makes records of events: no circle.
        if self._is_emitting:
            return
        self._is_emitting = True
        try:
            level = next(_LEVELS[each] for each in _LEVELS if record.levelno >= each)
            values: dict[str, Any] = {"text": record.getMessage()}
            if record.exc_info and record.exc_info[1]:
                kind, error, trace = record.exc_info
                values["log_failure"] = Failure(error, kind, trace)
            if record.stack_info:
                values["text"] += f"\n{record.stack_info}"
            Logger(namespace=record.name).emit(level, "{text}", **values)
        except Exception:
            self.handleError(record)
        finally:
            self._is_emitting = False


def file_observer(stream: TextIO, log_format: str) -> ILogObserver:
    """Return an observer that writes to `stream` and drops noise."""
    form = _clearing if _is_terminal(stream) else format_event
    return _FileObserver(stream, format_json if log_format == "json" else form)


@implementer(ILogObserver)
@frozen
class _FileObserver:
    stream: TextIO
    form: Callable[[LogEvent], str | None]
    drops_noise: bool = True

    def __call__(self, event: LogEvent) -> None:
        if not (self.drops_noise and is_noise(event)):
            self._write(self.form(event))

    def observe_lines(self, event: LogEvent, rows: Sequence[tuple[float, str]]) -> None:
        """Print an event for each row, which is its `log_time` and `log_io`, a line.

        event: what they have in common; the line is its text. The access log of a web site calls
        this, because an event is formatted once for many lines.
        """
        texts: list[str] = []
        if self.form is format_json:
            marked = format_json({"log_io": _LINE_MARK, **event, "log_time": _TIME_MARK})
            for at, line in rows:
                text = marked.replace(f'"{_TIME_MARK}"', repr(at))
                texts.append(text.replace(_LINE_MARK, dumps(line)[1:-1]))
        else:
            for second, group in groupby(rows, lambda row: int(row[0])):
                text = self.form({"log_io": _LINE_MARK, **event, "log_time": second}) or ""
                texts += [text.replace(_LINE_MARK, line) for _, line in group if line]
        self._write("".join(texts))

    def _write(self, text: str | None) -> None:
        if text:
            self.stream.write(text)
            self.stream.flush()


def format_json(event: LogEvent) -> str:
    """Return an event as a JSON object on one line; its `message` is what the text format shows.

    An event with values that are no JSON, such as a list that holds itself, loses them.
    """
    message = eventAsText(event, includeTimestamp=False, includeSystem=False)
    try:
        text = eventAsJSON({**event, "message": message})
    except Exception:
        kept = {key: event[key] for key in _PLAIN_KEYS if key in event}
        text = eventAsJSON({**kept, "message": message})
    return f"{text}\n"


def format_event(event: LogEvent) -> str:
    """Return an event as `2026-01-31 12:00:00 message`, followed by its traceback if it has one.

    A warning or error that is not evserve's has its namespace before the message.
    """
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["log_time"]))
    namespace = str(event.get("log_namespace", ""))
    level = event.get("log_level", LogLevel.info)
    origin = "" if namespace.startswith("evserve") or level is LogLevel.info else f"[{namespace}] "
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    return f"{at} {origin}{text}\n" if text else ""


def _is_terminal(stream: TextIO | None) -> bool:
    is_dumb = os.environ.get("TERM", "dumb") == "dumb"
    return stream is not None and stream is sys.stderr and stream.isatty() and not is_dumb


def _clearing(event: LogEvent) -> str:
    """Format an event, and clear the rest of each line, where a progress bar may be."""
    return format_event(event).replace("\n", "\x1b[K\n")


def is_noise(event: LogEvent) -> bool:
    """Return whether an event is `twistd`'s about itself, or one that the host replaces."""
    if str(event.get("log_namespace")).endswith("AppLogger"):
        return True
    if _NOISE.match(str(event.get("log_text") or event.get("log_format") or "")):
        return True
    failure = event.get("log_failure") or event.get("failure")  # the latter by the old API
    # twistd's own discovery failed on a plugin file: evserve reports that in one line.
    return isinstance(failure, Failure) and any(
        name == "getCache" and PurePath(file).parts[-2:] == ("twisted", "plugin.py")
        for name, file, *_ in failure.frames
    )
