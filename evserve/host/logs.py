"""Logging: one readable line an event on standard error, or Twisted's JSON.

Standard output is for results. `twistd` logs there and begins with lines about itself, so the host
brings its own observer, unless the user asked `twistd` for another place or format.
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


FORMATS = ("text", "json")

# Lines of Twisted's that say nothing, or less than our own line about the same thing: what
# announces its port itself has a log prefix that begins with "evserve".
NOISE = re.compile(
    r"evserve \w+( \(\w+\))* starting on |\((TCP|UNIX|TLS|UDP) Port .* Closed\)$"
    r"|(Starting|Stopping) factory |Main loop terminated|Unable to write to plugin cache"
)


def log_format(text: str) -> str:
    """Return a log format by name."""
    if text not in FORMATS:
        raise ValueError("not a log format (text or json)")
    return text


def logs_to_terminal(twistd: Mapping[str, Any]) -> bool:
    """Say whether the log goes to standard error."""
    elsewhere = twistd.get("logfile") or twistd.get("syslog") or twistd.get("logger")
    return bool(twistd.get("nodaemon")) and not elsewhere


def make_observer(twistd: Mapping[str, Any], log_format: str) -> ILogObserver | None:
    """Return the observer to log with; None leaves it to `twistd` and the options it was given."""
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
    return observer(stream, log_format)


def observer(stream: TextIO, log_format: str) -> ILogObserver:
    """Return an observer that writes to `stream`, without the noise of starting up."""
    inner = (
        jsonFileLogObserver(stream, recordSeparator="")
        if log_format == "json"
        else FileLogObserver(stream, _clearing if _is_terminal(stream) else as_text)
    )
    return FilteringLogObserver(inner, [quiet])


def as_text(event: LogEvent) -> str:
    """Return an event as `2026-01-31 12:00:00 message`, with a traceback if it holds one."""
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
    """Leave nothing to the right of a line: a progress bar may be there."""
    return as_text(event).replace("\n", "\x1b[K\n")


@provider(ILogFilterPredicate)
def quiet(event: LogEvent) -> Any:
    """Drop noise (twisted.logger's ILogFilterPredicate)."""
    return PredicateResult.no if _is_noise(event) else PredicateResult.maybe


def _is_noise(event: LogEvent) -> bool:
    """Say whether an event is one of `twistd`'s about itself, or one that the host replaces."""
    if str(event.get("log_namespace")).endswith("AppLogger"):
        return True
    if NOISE.match(str(event.get("log_text") or event.get("log_format") or "")):
        return True
    failure = event.get("log_failure") or event.get("failure")  # the old API has the latter
    return isinstance(failure, Failure) and _failed_in_discovery(failure)


def _failed_in_discovery(failure: Failure) -> bool:
    """Say whether `twistd` stumbled over a plugin file: evserve reports that in one line."""
    return any(
        name == "getCache" and PurePath(file).parts[-2:] == ("twisted", "plugin.py")
        for name, file, *_ in failure.frames
    )
