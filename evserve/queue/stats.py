"""Statistics: the replies to the stats commands, and Prometheus metrics.

The replies are YAML whose every byte clients may depend on. Keys, their order and their quoting
are those of beanstalkd 1.13. Its binlog figures have no meaning here and are 0, but for the
number of records written.
"""

import heapq
import os
import resource
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from operator import attrgetter
from typing import Any, Final

from attrs import Factory, define, field
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from evserve import __version__
from evserve.events import State
from evserve.queue.broker import Broker
from evserve.queue.core import Core
from evserve.queue.model import Event, Tube
from evserve.queue.store import Batch, Outcome, WriteResult


# In the order in which `stats` lists them.
COMMANDS: Final = (
    *("put", "peek", "peek-ready", "peek-delayed", "peek-buried", "reserve"),
    *("reserve-with-timeout", "delete", "release", "use", "watch", "ignore", "bury", "kick"),
    *("touch", "stats", "stats-job", "stats-tube", "list-tubes", "list-tube-used"),
    *("list-tubes-watched", "pause-tube"),
)

# Buckets of a commit's duration and of its rows.
_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@define(eq=False, repr=False)
class Statistics:
    """Counters of a server's commands and of rows written. started: in seconds, by the clock."""

    core: Core
    started: float
    counts: dict[str, int] = Factory(lambda: dict.fromkeys(COMMANDS, 0))
    records: int = 0
    instance: str = Factory(lambda: secrets.token_hex(8))

    def server_stats(self, now: float, *, draining: bool) -> bytes:
        """The reply to `stats`."""
        core, tubes, clients = self.core, self.core.tubes.values(), self.core.clients
        usage, uname = resource.getrusage(resource.RUSAGE_SELF), os.uname()
        return _yaml(
            [
                *_current_jobs(tubes),
                *((f"cmd-{name}", self.counts[name]) for name in COMMANDS),
                ("job-timeouts", core.timeouts),
                ("total-jobs", core.total_events),
                ("max-job-size", core.limits.max_job_size),
                ("current-tubes", len(tubes)),
                ("current-connections", len(clients)),
                ("current-producers", sum(client.is_producer for client in clients)),
                ("current-workers", sum(client.is_worker for client in clients)),
                ("current-waiting", core.waiting),
                ("total-connections", core.total_connections),
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


def tube_stats(tube: Tube, now: float) -> bytes:
    """The reply to `stats-tube`."""
    return _yaml(
        [
            ("name", f'"{tube.name}"'),
            *_current_jobs([tube]),
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


def _current_jobs(tubes: Collection[Tube]) -> Iterator[tuple[str, int]]:
    yield "current-jobs-urgent", sum(tube.urgent for tube in tubes)
    yield "current-jobs-ready", sum(tube.ready for tube in tubes)
    yield "current-jobs-reserved", sum(tube.reserved for tube in tubes)
    yield "current-jobs-delayed", sum(tube.delayed for tube in tubes)
    yield "current-jobs-buried", sum(len(tube.buried) for tube in tubes)


def event_stats(event: Event, now: float) -> bytes:
    """The reply to `stats-job`."""
    is_timed, delivery = event.state in (State.RESERVED, State.DELAYED), event.delivery
    return _yaml(
        [
            ("id", event.id),
            ("tube", f'"{event.tube.name}"'),
            ("state", event.state.name.lower()),
            ("pri", event.pri),
            ("age", int(now - event.created)),
            ("delay", int(delivery.delay)),
            ("ttr", event.ttr),
            ("time-left", int(delivery.due - now) if is_timed else 0),
            ("file", 0),
            ("reserves", delivery.reserves),
            ("timeouts", delivery.timeouts),
            ("releases", delivery.releases),
            ("buries", delivery.buries),
            ("kicks", delivery.kicks),
        ]
    )


def name_list(names: Iterable[str]) -> bytes:
    """The reply to a list of tubes."""
    return _ok("---\n" + "".join(f"- {name}\n" for name in names))


def _yaml(items: list[tuple[str, int | str]]) -> bytes:
    return _ok("---\n" + "".join(f"{key}: {value}\n" for key, value in items))


def _ok(text: str) -> bytes:
    data = text.encode()
    return b"OK %d\r\n%b\r\n" % (len(data), data)


# Clients can make any number of tubes. Metrics show the largest ones, and the totals of all.
MOST_TUBES: Final = 50
# Tubes that are counted before the reactor gets its turn: about five milliseconds.
_TUBES_AT_ONCE: Final = 5_000


@define(eq=False, repr=False)
class TubeCount:
    """Counts `tubes` in steps: their events by state, and the MOST_TUBES with the most events."""

    tubes: list[Tube]
    states: Counter[str] = field(factory=Counter, init=False)
    largest: list[Tube] = field(factory=list, init=False)
    _done: int = field(default=0, init=False)

    def step(self) -> bool:
        """Count some more; return whether that is all."""
        part = self.tubes[self._done : self._done + _TUBES_AT_ONCE]
        self._done += len(part)
        for tube in part:
            for state, count in _events_by_state(tube):
                self.states[state] += count
        candidates = [*self.largest, *part]
        self.largest = heapq.nlargest(MOST_TUBES, candidates, attrgetter("event_count"))
        return self._done >= len(self.tubes)


def _events_by_state(tube: Tube) -> tuple[tuple[str, int], ...]:
    return (
        ("ready", tube.ready),
        ("reserved", tube.reserved),
        ("delayed", tube.delayed),
        ("buried", len(tube.buried)),
    )


@define(eq=False, repr=False)
class Metrics:
    """A prometheus_client collector; it reads the broker and the tubes when it is asked.

    If there are so many tubes that counting them would hold up clients, they are counted in steps
    after the reply, which has the figures of the count before.
    """

    broker: Broker
    statistics: Statistics
    _count: TubeCount = field(factory=lambda: TubeCount([]), init=False)
    _is_counting: bool = field(default=False, init=False)
    _is_full: bool = field(default=False, init=False)
    _seconds: Histogram = field(init=False)
    _rows: Histogram = field(init=False)

    def __attrs_post_init__(self) -> None:
        registry: Any = CollectorRegistry()
        self._seconds = Histogram(
            "evserve_queue_commit_seconds",
            "Seconds that a commit took.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Histogram(
            "evserve_queue_commit_rows",
            "Rows of a commit.",
            buckets=_ROWS,
            registry=registry,
        )

    def observe(self, batch: Batch, result: WriteResult) -> None:
        """Count a commit."""
        rows = batch.rows
        self.statistics.records += rows
        self._seconds.observe(result.seconds)
        self._rows.observe(rows)
        if batch.puts:
            self._is_full = result.puts is Outcome.FULL

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics (prometheus_client's Collector)."""
        yield from self._seconds.collect()
        yield from self._rows.collect()
        broker, now = self.broker, self.broker.now()
        yield GaugeMetricFamily(
            "evserve_queue_store_up",
            "Whether the store takes changes: it is neither locked nor broken.",
            value=broker.problem is None,
        )
        yield GaugeMetricFamily(
            "evserve_queue_store_full",
            "Whether the last put found the disk full.",
            value=self._is_full,
        )
        yield CounterMetricFamily(
            "evserve_queue_damaged",
            "Events buried because the store had lost their bodies.",
            value=broker.damaged,
        )
        yield GaugeMetricFamily("evserve_queue_tubes", "Tubes.", value=len(broker.core.tubes))
        count = self._count_tubes()
        all_events = GaugeMetricFamily(
            "evserve_queue_all_events", "Events of all tubes by state.", labels=["state"]
        )
        for state, number in count.states.items():
            all_events.add_metric([state], number)
        yield all_events
        events = GaugeMetricFamily(
            "evserve_queue_events", "Events by tube and state.", labels=["tube", "state"]
        )
        puts = CounterMetricFamily(
            "evserve_queue_puts", "Events put since the start.", labels=["tube"]
        )
        deletes = CounterMetricFamily(
            "evserve_queue_deletes", "Events deleted since the start.", labels=["tube"]
        )
        oldest = GaugeMetricFamily(
            "evserve_queue_oldest_seconds", "Age of the oldest event.", labels=["tube"]
        )
        for tube in count.largest:
            for state, number in _events_by_state(tube):
                events.add_metric([tube.name, state], number)
            puts.add_metric([tube.name], tube.total)
            deletes.add_metric([tube.name], tube.deletes)
            first = tube.oldest()
            oldest.add_metric([tube.name], 0 if first is None else now - first.created)
        yield from (events, puts, deletes, oldest)

    def _count_tubes(self) -> TubeCount:
        """Return the last complete count: that of now, unless there are very many tubes."""
        if not self._is_counting:
            count = TubeCount(list(self.broker.core.tubes.values()))
            self._is_counting = True
            self._go_on(count)
        return self._count

    def _go_on(self, count: TubeCount) -> None:
        if count.step():
            self._count, self._is_counting = count, False
        else:
            self.broker.clock.callLater(0, self._go_on, count)
