"""The options of the work service."""

import re
from typing import Any

from twisted.python import usage


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError("not a whole number above 0")
    return int(text)


def seconds(text: str) -> float:
    """Return a duration in seconds, 0 or more."""
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII):
        raise ValueError("not a number of seconds (such as 2 or 0.5)")
    return float(text)


class Options(usage.Options):
    """See `longdesc`."""

    longdesc = "Take events from a queue and run the handlers that plugin files name."
    optFlags = (["demo", None, "Show 10 events/s being produced and 8/s being handled"],)
    optParameters: tuple[list[Any], ...] = (
        ["queue", None, None, "Where events come from, such as beanstalk://127.0.0.1:11300"],
        ["concurrency", None, 8, "Handlers that may run at once", count],
        ["timeout", None, 300.0, "Seconds a handler may take; 0 is no limit", seconds],
        ["max-attempts", None, 5, "Attempts after which a failing event is buried", count],
    )

    def postOptions(self) -> None:
        """Refuse to start without a queue."""
        if self["demo"] and self["queue"]:
            raise usage.UsageError("--demo brings its own queue: leave out --queue")
        if not self["demo"] and not self["queue"]:
            raise usage.UsageError("say where events come from: --queue URL (or --demo)")
