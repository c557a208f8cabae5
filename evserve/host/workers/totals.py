"""The metrics of all workers, summed by name and labels.

The counts of a dead worker stay in the sums, so that no counter goes backwards; its gauges, such
as open connections, are dropped. A metric without a sample, because no label of it was used yet,
stays a metric: the reader of one that every service has expects it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from attrs import define, field
from prometheus_client.core import Metric, Sample
from prometheus_client.registry import Collector

from evserve.host.metrics import ProcessMetrics


_COUNTED = ("counter", "histogram", "summary")


@define(eq=False)
class Totals:
    """The last metrics of each living worker, and the counts of the dead ones."""

    _alive: dict[object, tuple[Metric, ...]] = field(init=False, factory=dict)
    _dead: tuple[Metric, ...] = field(init=False, default=())

    def update(self, worker: object, families: tuple[Metric, ...]) -> None:
        """Replace the metrics of a worker by newer ones."""
        self._alive[worker] = families

    def retire(self, worker: object) -> None:
        """Keep the counts of a worker that died, and drop its gauges."""
        families = self._alive.pop(worker, ())
        counted = (family for family in families if family.type in _COUNTED)
        self._dead = tuple(_summed(chain(self._dead, counted)))

    def collect(self) -> Iterator[Metric]:
        """Yield the sums for all services; each sample has its service as a label."""
        return _summed(chain(self._dead, *self._alive.values()))


@define(eq=False)
class ServiceTotals(Collector):
    """The totals of one service.

    own: the supervisor's metrics of the service. It serves no clients, so they count as zero.
    """

    totals: Totals
    service: str
    own: Collector

    def collect(self) -> Iterator[Metric]:
        """Yield the service's metrics without the label `service`, which the host adds."""
        return _summed(chain(self._zeros(), self._of_workers()))

    def _zeros(self) -> Iterator[Metric]:
        """Yield the metrics that the service has even if no worker has reported yet."""
        for metric in self.own.collect():
            metric.samples = [sample._replace(value=0.0) for sample in metric.samples]
            yield metric

    def _of_workers(self) -> Iterator[Metric]:
        for metric in self.totals.collect():
            samples = [
                sample._replace(labels={k: v for k, v in sample.labels.items() if k != "service"})
                for sample in metric.samples
                if sample.labels.get("service") == self.service
            ]
            if samples or not metric.samples:
                metric.samples = samples
                yield metric


class ProcessTotals(Collector):
    """The metrics of the supervisor's process and of the workers' processes, summed."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._own = ProcessMetrics()

    def collect(self) -> Iterator[Metric]:
        """Yield each metric that the supervisor has."""
        own = list(self._own.collect())
        names = {each.name for each in own}
        workers = (each for each in self._totals.collect() if each.name in names)
        return _summed(chain(own, workers))


def _summed(families: Iterable[Metric]) -> Iterator[Metric]:
    """Yield one family for each name, with one sample for each set of labels."""
    summed: dict[str, tuple[Metric, dict[object, Sample]]] = {}
    for family in families:
        empty = Metric(family.name, family.documentation, family.type, family.unit)
        samples = summed.setdefault(family.name, (empty, {}))[1]
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            value = sample.value
            if key in samples:
                value = _combination(family, sample)((samples[key].value, value))
            samples[key] = Sample(sample.name, dict(key[1]), value)
    for metric, by_labels in summed.values():
        metric.samples = list(by_labels.values())
        yield metric


def _combination(family: Metric, sample: Sample) -> Callable[[Iterable[float]], float]:
    """Return the function that combines the values of one sample from several processes."""
    if sample.name.endswith(("_created", "_start_time_seconds")):  # when counting began
        return min
    return max if family.type in ("info", "stateset") else sum
