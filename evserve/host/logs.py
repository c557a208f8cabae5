"""Logs: one readable line per event on standard error, or Twisted's JSON.

Standard output is for results, but `twistd` logs there, and begins with lines about itself. So the
host sets its own observer, unless the user asked `twistd` for another place or format.
"""

import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    eventAsText,
    jsonFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import provider


# Twisted's lines that say nothing, or less than a line of evserve about the same thing. A factory
# or protocol that logs its own port has a log prefix that begins with "evserve".
_NOISE = re.compile(
    r"evserve \w+( \(\w+\))* starting on |\((TCP|UNIX|TLS|UDP) Port .* Closed\)$"
    r"|(Starting|Stopping) factory |Main loop terminated|Unable to write to plugin cache"
)


def logs_to_terminal(twistd: Mapping[str, Any]) -> bool:
    """Return whether the log goes to standard error."""
    elsewhere = twistd.get("logfile") or twistd.get("syslog") or twistd.get("logger")
    return bool(twistd.get("nodaemon")) and not elsewhere


def make_observer(twistd: Mapping[str, Any], log_format: str) -> ILogObserver | None:
    """Return the observer to log with; None leaves logging to `twistd`."""
    if twistd.get("logger") or twistd.get("syslog"):
        return None
    name = twistd.get("logfile")
    stream: Any
    if twistd.get("nodaemon") and not name:
        stream = sys.stderr
    elif log_format == "text":
        return None
    else:
        stream = sys.stdout if name == "-" else LogFile.fromFullPath(name or "twistd.log")
    return file_observer(stream, log_format)


def file_observer(stream: TextIO, log_format: str) -> ILogObserver:
    """Return an observer that writes to `stream` and drops noise."""
    inner = (
        jsonFileLogObserver(stream, recordSeparator="")
        if log_format == "json"
        else FileLogObserver(stream, _clearing if _is_terminal(stream) else format_event)
    )
    return FilteringLogObserver(inner, [drop_noise])


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


@provider(ILogFilterPredicate)
def drop_noise(event: LogEvent) -> Any:
    """Drop `twistd`'s lines about itself, and those that the host replaces with its own."""
    return PredicateResult.no if _is_noise(event) else PredicateResult.maybe


def _is_noise(event: LogEvent) -> bool:
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
