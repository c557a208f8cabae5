"""The options of `load`, and the plan that they make."""

from pathlib import Path

from twisted.python import usage
from typing_extensions import override

from evserve.load.conversations import LINE_BREAK, make_line
from evserve.load.plan import DEFAULT_SECONDS, Plan
from evserve.load.usage import PROC
from evserve.options import (
    MAX_TIMER_SECONDS,
    integer_between,
    non_negative_integer,
    positive_integer,
    positive_number,
    seconds_up_to,
)


_MAX_SIZE = 2**26  # bytes of a message

_seconds = seconds_up_to(MAX_TIMER_SECONDS)
_positive_seconds = seconds_up_to(MAX_TIMER_SECONDS, positive=True)


def _process(text: str) -> int:
    if not PROC.joinpath("self", "stat").exists():
        raise ValueError("needs /proc, which only Linux has")
    if not Path(PROC, str(positive_integer(text)), "stat").exists():
        raise ValueError("no such process")
    return int(text)


class Options(usage.Options):
    """Which server to load, and how."""

    longdesc = (
        "Drives a server that echoes, or with --lines one that answers line by line, and checks "
        "every byte. Without --rate each connection sends its next message when it has the answer "
        "(closed loop). With --rate messages start at a constant rate whatever the server does, "
        "and latency counts from when each should have started (open loop)."
    )
    optParameters = [
        ["connect", None, "tcp:127.0.0.1:9000", "Twisted client endpoint of the server"],
        ["connections", None, 10, "Connections that send messages", positive_integer],
        ["idle", None, 0, "Additional idle connections", non_negative_integer],
        ["size", None, 64, "Bytes per message", integer_between(1, _MAX_SIZE)],
        ["depth", None, None, "Messages in flight per connection [default: 1]", positive_integer],
        ["rate", None, None, "Messages per second over all connections", positive_number],
        [
            "seconds",
            None,
            None,
            f"Seconds to measure [default: {DEFAULT_SECONDS:g}]",
            _positive_seconds,
        ],
        ["count", None, None, "Number of answers to measure", positive_integer],
        ["warm-up", None, 0.0, "Seconds of load before the measurement", _seconds],
        ["timeout", None, 5.0, "Seconds to wait for missing answers", _positive_seconds],
        ["send", None, None, "Line to send (implies --lines)"],
        ["expect", None, None, "Line that every answer must be (implies --lines)"],
        ["pid", None, None, "Measure this process and its children as the server", _process],
        ["json", None, None, "Write the report as JSON to this file; - is standard output"],
    ]
    optFlags = [["lines", None, "Send lines, and accept any line as the answer to each"]]

    @override
    def postOptions(self) -> None:
        if self["json"] == "":
            raise usage.UsageError("--json '': not a file name")
        if self["rate"] is not None and self["depth"] is not None:
            raise usage.UsageError("--depth is for a closed loop: leave out --rate or --depth")
        if self._has_lines and self["send"] is None and self["size"] <= len(LINE_BREAK):
            raise usage.UsageError("--lines needs --size 3 or more, for the line break")

    @property
    def _has_lines(self) -> bool:
        return bool(self["lines"]) or self["send"] is not None or self["expect"] is not None

    def plan(self) -> Plan:
        """Return the plan."""
        line = _encode(self["send"])
        if line is None and self._has_lines:
            line = make_line(self["size"])
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
            expected=_encode(self["expect"]),
            pid=self["pid"],
            timeout=self["timeout"],
        )


def _encode(text: str | None) -> bytes | None:
    return None if text is None else text.encode(errors="surrogateescape")
