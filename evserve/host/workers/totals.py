"""The metrics of all workers as one: sums by name and labels.

What a dead worker has counted stays in the sums, so that no counter goes backwards; what it merely
gauged, such as open connections, has died with it.
"""

from collections.abc import Callable, Iterable, Iterator

from attrs import define, field
from prometheus_client.core import Metric, Sample


_COUNTED = ("counter", "histogram", "summary")
_Labels = tuple[tuple[str, str], ...]


@define(eq=False)
class _Sums:
    """Families by name, and the value of each of their samples."""

    families: dict[str, Metric] = field(factory=dict)
    values: dict[str, dict[tuple[str, _Labels], float]] = field(factory=dict)

    def add(self, families: Iterable[Metric]) -> None:
        for family in families:
            self.families.setdefault(family.name, family)
            values = self.values.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                combine = _combination(family, sample)
                values[key] = (
                    combine((values[key], sample.value)) if key in values else sample.value
                )

    def metrics(self) -> Iterator[Metric]:
        for name, values in self.values.items():
            like = self.families[name]
            metric = Metric(name, like.documentation, like.type, like.unit)
            metric.samples = [Sample(key[0], dict(key[1]), value) for key, value in values.items()]
            yield metric


def _combination(family: Metric, sample: Sample) -> Callable[[Iterable[float]], float]:
    """Return how a sample of several processes becomes one."""
    if sample.name.endswith("_created"):  # a time: since when it has been counted
        return min
    return max if family.type in ("info", "stateset") else sum


@define(eq=False)
class Totals:
    """The last snapshot of each living worker, and what the dead ones counted."""

    _living: dict[object, tuple[Metric, ...]] = field(init=False, factory=dict)
    _past: _Sums = field(init=False, factory=_Sums)

    def update(self, worker: object, families: tuple[Metric, ...]) -> None:
        """Take in a worker's snapshot; it replaces the one before."""
        self._living[worker] = families

    def retire(self, worker: object) -> None:
        """Note that a worker is dead."""
        families = self._living.pop(worker, ())
        self._past.add(family for family in families if family.type in _COUNTED)

    def collect(self) -> Iterator[Metric]:
        """Yield the sums; each sample has its service as a label."""
        sums = _Sums()
        sums.add(self._past.metrics())
        for families in self._living.values():
            sums.add(families)
        yield from sums.metrics()


@define(eq=False)
class ServiceTotals:
    """The part of `totals` that belongs to one service (a prometheus_client Collector)."""

    totals: Totals
    service: str

    def collect(self) -> Iterator[Metric]:
        """Yield the service's metrics, without its name, which the host adds."""
        for metric in self.totals.collect():
            metric.samples = [
                sample._replace(labels=_without_service(sample.labels))
                for sample in metric.samples
                if sample.labels.get("service") == self.service
            ]
            if metric.samples:
                yield metric


def _without_service(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name != "service"}
