"""What the stats commands answer: YAML whose every byte clients may depend on.

Keys, their order and their quoting are those of beanstalkd 1.13. Its binlog figures have no
meaning here and are 0, but for the count of records written.
"""

import os
import resource
import secrets
from collections.abc import Iterable, Iterator
from typing import Any, Final

from attrs import Factory, define, field
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.interfaces import IReactorTime

from evserve import __version__
from evserve.queue.core import Book
from evserve.queue.model import Event, State, Tube
from evserve.queue.store import Batch, Written


# In the order in which `stats` lists them.
COMMANDS: Final = (
    *("put", "peek", "peek-ready", "peek-delayed", "peek-buried", "reserve"),
    *("reserve-with-timeout", "delete", "release", "use", "watch", "ignore", "bury", "kick"),
    *("touch", "stats", "stats-job", "stats-tube", "list-tubes", "list-tube-used"),
    *("list-tubes-watched", "pause-tube"),
)


@define(eq=False, repr=False)
class Statistics:
    """What is counted about commands, and the replies to the stats commands.

    started: when the server was, in seconds.
    """

    book: Book
    started: float
    counts: dict[str, int] = Factory(lambda: dict.fromkeys(COMMANDS, 0))
    records: int = 0
    instance: str = Factory(lambda: secrets.token_hex(8))

    def server(self, now: float, *, draining: bool) -> bytes:
        """The reply to `stats`."""
        book, usage, uname = self.book, resource.getrusage(resource.RUSAGE_SELF), os.uname()
        return _yaml(
            [
                *self._events(),
                *((f"cmd-{name}", self.counts[name]) for name in COMMANDS),
                ("job-timeouts", book.timeouts),
                ("total-jobs", book.total),
                ("max-job-size", book.limits.max_job_size),
                ("current-tubes", len(book.tubes)),
                *self._connections(),
                ("pid", os.getpid()),
                ("version", f'"{__version__}"'),
                ("rusage-utime", f"{usage.ru_utime:.6f}"),
                ("rusage-stime", f"{usage.ru_stime:.6f}"),
                ("uptime", int(now - self.started)),
                ("binlog-oldest-index", 0),
                ("binlog-current-index", 0),
                ("binlog-records-migrated", 0),
                ("binlog-records-written", self.records),
                ("binlog-max-size", 0),
                ("draining", "true" if draining else "false"),
                ("id", self.instance),
                ("hostname", f'"{uname.nodename}"'),
                ("os", f'"{uname.version}"'),
                ("platform", f'"{uname.machine}"'),
            ]
        )

    def _events(self) -> Iterable[tuple[str, int]]:
        tubes = self.book.tubes.values()
        yield "current-jobs-urgent", sum(tube.urgent for tube in tubes)
        yield "current-jobs-ready", sum(tube.ready for tube in tubes)
        yield "current-jobs-reserved", sum(tube.reserved for tube in tubes)
        yield "current-jobs-delayed", sum(tube.delayed for tube in tubes)
        yield "current-jobs-buried", sum(len(tube.buried) for tube in tubes)

    def _connections(self) -> Iterable[tuple[str, int]]:
        clients = self.book.clients
        yield "current-connections", len(clients)
        yield "current-producers", sum(client.produces for client in clients)
        yield "current-workers", sum(client.works for client in clients)
        yield "current-waiting", self.book.waiting
        yield "total-connections", self.book.connections


def tube_stats(tube: Tube, now: float) -> bytes:
    """The reply to `stats-tube`."""
    return _yaml(
        [
            ("name", f'"{tube.name}"'),
            ("current-jobs-urgent", tube.urgent),
            ("current-jobs-ready", tube.ready),
            ("current-jobs-reserved", tube.reserved),
            ("current-jobs-delayed", tube.delayed),
            ("current-jobs-buried", len(tube.buried)),
            ("total-jobs", tube.total),
            ("current-using", tube.using),
            ("current-watching", tube.watching),
            ("current-waiting", len(tube.waiting)),
            ("cmd-delete", tube.deletes),
            ("cmd-pause-tube", tube.pauses),
            ("pause", tube.pause),
            ("pause-time-left", int(tube.paused_until - now) if tube.pause else 0),
        ]
    )


def event_stats(event: Event, now: float) -> bytes:
    """The reply to `stats-job`."""
    timed = event.state in (State.RESERVED, State.DELAYED)
    return _yaml(
        [
            ("id", event.id),
            ("tube", f'"{event.tube.name}"'),
            ("state", event.state.name.lower()),
            ("pri", event.pri),
            ("age", int(now - event.created)),
            ("delay", int(event.delay)),
            ("ttr", event.ttr),
            ("time-left", int(event.due - now) if timed else 0),
            ("file", 0),
            ("reserves", event.reserves),
            ("timeouts", event.timeouts),
            ("releases", event.releases),
            ("buries", event.buries),
            ("kicks", event.kicks),
        ]
    )


def name_list(names: Iterable[str]) -> bytes:
    """The reply to a list of tubes."""
    return _chunk("---\n" + "".join(f"- {name}\n" for name in names))


def _yaml(items: list[tuple[str, int | str]]) -> bytes:
    return _chunk("---\n" + "".join(f"{key}: {value}\n" for key, value in items))


def _chunk(text: str) -> bytes:
    data = text.encode()
    return b"OK %d\r\n%b\r\n" % (len(data), data)


_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@define(eq=False, repr=False)
class Metrics:
    """A prometheus_client collector; tubes are read when somebody asks."""

    book: Book
    statistics: Statistics
    clock: IReactorTime
    _seconds: Histogram = field(init=False)
    _rows: Histogram = field(init=False)

    def __attrs_post_init__(self) -> None:
        registry: Any = CollectorRegistry()
        self._seconds = Histogram(
            "evserve_queue_commit_seconds",
            "How long the store took for a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Histogram(
            "evserve_queue_commit_rows",
            "How many rows a batch had.",
            buckets=_ROWS,
            registry=registry,
        )

    def observe(self, batch: Batch, written: Written) -> None:
        """Note a commit; see Observer."""
        rows = batch.rows
        self.statistics.records += rows
        self._seconds.observe(written.seconds)
        self._rows.observe(rows)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics (prometheus_client's Collector)."""
        yield from self._seconds.collect()
        yield from self._rows.collect()
        now = self.clock.seconds()
        events = GaugeMetricFamily(
            "evserve_queue_events", "Events by tube and state.", labels=["tube", "state"]
        )
        puts = CounterMetricFamily(
            "evserve_queue_puts", "Events put since the start.", labels=["tube"]
        )
        acks = CounterMetricFamily(
            "evserve_queue_deletes", "Events deleted since the start.", labels=["tube"]
        )
        oldest = GaugeMetricFamily(
            "evserve_queue_oldest_seconds", "Age of the oldest event.", labels=["tube"]
        )
        for tube in self.book.tubes.values():
            for state, count in _states(tube):
                events.add_metric([tube.name, state], count)
            puts.add_metric([tube.name], tube.total)
            acks.add_metric([tube.name], tube.deletes)
            first = tube.oldest()
            oldest.add_metric([tube.name], 0 if first is None else now - first.created)
        yield from (events, puts, acks, oldest)


def _states(tube: Tube) -> Iterator[tuple[str, int]]:
    yield "ready", tube.ready
    yield "reserved", tube.reserved
    yield "delayed", tube.delayed
    yield "buried", len(tube.buried)
