"""The options of `load`, and the plan they make."""

import math
import re
from pathlib import Path

from twisted.python import usage

from evserve.load.conversations import LINE_BREAK, line_of
from evserve.load.plan import DEFAULT_SECONDS, Plan
from evserve.load.usage import PROC


_MOST_SECONDS = 2_000_000  # beyond, a reactor's timer overflows
_LARGEST = 2**26  # bytes of a message


def _whole(text: str, least: int, problem: str, most: int = 10**12 - 1) -> int:
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValueError(problem)
    return int(text)


def _count(text: str) -> int:
    """Return a whole number of at least 0."""
    return _whole(text, 0, "not a whole number (0 or more)")


def _positive(text: str) -> int:
    return _whole(text, 1, "not a whole number above 0")


def _size(text: str) -> int:
    return _whole(text, 1, f"not a number of bytes (1 to {_LARGEST})", _LARGEST)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _MOST_SECONDS:  # nan is neither
        raise ValueError(f"not a number from 0 to {_MOST_SECONDS} (such as 2 or 0.5)")
    return value


def _above_zero(text: str) -> float:
    value = _number(text)
    if not value:
        raise ValueError("not a number above 0")
    return value


def _process(text: str) -> int:
    if not PROC.joinpath("self", "stat").exists():
        raise ValueError("needs /proc, which Linux has")
    if not Path(PROC, str(_positive(text)), "stat").exists():
        raise ValueError("no such process")
    return int(text)


class Options(usage.Options):
    """What to do to which server."""

    longdesc = (
        "Drives a server that echoes, or with --lines one that answers line by line, and checks "
        "every byte. Without --rate each connection sends when it has its answer (a closed loop). "
        "With --rate messages start at a constant rate whatever the server does, and latency "
        "counts from when each ought to have started."
    )
    optParameters = [
        ["connect", None, "tcp:127.0.0.1:9000", "The server, as a Twisted client endpoint"],
        ["connections", None, 10, "Connections that send", _positive],
        ["idle", None, 0, "Further connections that only sit there", _count],
        ["size", None, 64, "Bytes per message", _size],
        ["depth", None, None, "Messages in flight per connection [default: 1]", _positive],
        ["rate", None, None, "Messages a second in total, at a constant rate", _above_zero],
        [
            "seconds",
            None,
            None,
            f"How long to measure [default: {DEFAULT_SECONDS:g}]",
            _above_zero,
        ],
        ["count", None, None, "How many answers to measure", _positive],
        ["warm-up", None, 0.0, "Seconds of load before measuring", _number],
        ["timeout", None, 5.0, "Seconds to wait for answers that do not come", _above_zero],
        ["send", None, None, "The line to send (implies --lines)"],
        ["expect", None, None, "The line that every answer must be (implies --lines)"],
        ["pid", None, None, "Measure this process and its children as the server", _process],
        ["json", None, None, "Write the report as JSON to this file; - is standard output"],
    ]
    optFlags = [["lines", None, "One line is answered by one line, whichever it is"]]

    def postOptions(self) -> None:
        """Refuse what contradicts itself."""
        if self["json"] == "":
            raise usage.UsageError("--json '': not the name of a file")
        if self["rate"] is not None and self["depth"] is not None:
            raise usage.UsageError("--depth is for a closed loop: leave out --rate or --depth")
        if self._has_lines and self["send"] is None and self["size"] <= len(LINE_BREAK):
            raise usage.UsageError("--lines needs --size 3 or more: a line has a line break")

    @property
    def _has_lines(self) -> bool:
        return bool(self["lines"]) or self["send"] is not None or self["expect"] is not None

    def plan(self) -> Plan:
        """Return what was asked for."""
        line = self._line()
        seconds = self["seconds"]
        if seconds is None and self["count"] is None:
            seconds = DEFAULT_SECONDS
        return Plan(
            self["connect"],
            self["connections"],
            self["size"] if line is None else len(line + LINE_BREAK),
            self["depth"] or 1,
            self["rate"],
            seconds=seconds,
            count=self["count"],
            warm_up=self["warm-up"],
            idle=self["idle"],
            line=line,
            expected=_bytes(self["expect"]),
            pid=self["pid"],
            timeout=self["timeout"],
        )

    def _line(self) -> bytes | None:
        if not self._has_lines:
            return None
        given = _bytes(self["send"])
        return line_of(self["size"]) if given is None else given


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode(errors="surrogateescape")
