"""What a Prometheus server is told: events by tube and state, rates, ages, commits."""

from collections.abc import Iterator
from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.internet.interfaces import IReactorTime

from evserve.queue.book import Book
from evserve.queue.journal import Batch, Written
from evserve.queue.statistics import Statistics
from evserve.queue.tube import Tube


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
