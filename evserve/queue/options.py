"""What the queue can be told on the command line and in its config table."""

from typing import Final

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from evserve.queue.grammar import is_tube_name
from evserve.queue.model import Limits


MEMORY: Final = ":memory:"
# SQLite's own limit on a row is 10**9 bytes.
MOST_JOB_SIZE: Final = 512 * 1024 * 1024
# So many bytes of bodies stay in memory beside the store, to be served without reading it.
RESIDENT: Final = 64 * 1024 * 1024


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise ValueError("not a whole number above 0")
    return value


def _job_size(text: str) -> int:
    value = _count(text)
    if value > MOST_JOB_SIZE:
        raise ValueError(f"more than {MOST_JOB_SIZE} bytes")
    return value


def _sync(text: str) -> str:
    if text not in ("full", "normal"):
        raise ValueError("not a way to sync (full or normal)")
    return text


class Options(UsageOptions):
    """What the queue adds to the options that every listening service takes."""

    longdesc = (
        "Speaks the protocol of beanstalkd 1.13, so that every client of beanstalkd can use it, "
        "and some verbs of its own (docs/protocol.md). SIGUSR1 makes it refuse puts (DRAINING)."
    )
    optParameters = [
        ["store", None, MEMORY, "SQLite file that keeps the events; :memory: keeps nothing"],
        ["sync", None, "full", "full: survives a power cut; normal: the process's end", _sync],
        ["max-job-size", "z", 65535, "Largest body accepted, in bytes", _job_size],
        ["max-bytes", None, None, "Refuse puts beyond so many bytes of bodies", _count],
        ["max-events", None, None, "Refuse puts beyond so many events", _count],
        ["max-tube-events", None, None, "Refuse puts beyond so many events in a tube", _count],
    ]

    default_port = 11300  # when neither --port nor --listen says where

    def __init__(self) -> None:
        UsageOptions.__init__(self)
        self["fanout"] = []

    def opt_fanout(self, text: str) -> None:
        """Copy what is put into a tube into others too: clicks=billing,audit. May be repeated."""
        source, equals, targets = text.partition("=")
        names = targets.split(",")
        if not equals or source in names or not all(map(is_tube_name, (source, *names))):
            raise UsageError(f"--fanout {text}: write it like clicks=billing,audit")
        self["fanout"] += [(source, name) for name in names]

    def limits(self) -> Limits:
        """Return the limits these options set."""
        return Limits(
            max_job_size=self["max-job-size"],
            max_bytes=self["max-bytes"],
            max_events=self["max-events"],
            max_tube_events=self["max-tube-events"],
            resident=None if self["store"] == MEMORY else RESIDENT,
        )
