"""The metrics of all services as one: each service has a registry, and its name as a label."""

from collections.abc import Iterator

from attrs import define, field
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from twisted.logger import Logger


_log = Logger()


@define(eq=False)
class Metrics:
    """Registries by service name; a prometheus_client collector over all of them."""

    _registries: dict[str, CollectorRegistry] = field(init=False, factory=dict)
    _broken: set[str] = field(init=False, factory=set)

    def of(self, service: str) -> CollectorRegistry:
        """Return the registry of a service, made when first asked for."""
        return self._registries.setdefault(service, CollectorRegistry())

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once, with the samples of all services that have it."""
        merged: dict[str, Metric] = {}
        for service, registry in self._registries.items():
            for metric in self._families(service, registry):
                family = merged.setdefault(
                    metric.name,
                    Metric(metric.name, metric.documentation, metric.type, metric.unit),
                )
                family.samples += [
                    sample._replace(labels={"service": service, **sample.labels})
                    for sample in metric.samples
                ]
        yield from merged.values()

    def _families(self, service: str, registry: CollectorRegistry) -> list[Metric]:
        """Return a service's metrics; one that cannot count hides nobody else's."""
        try:
            return list(registry.collect())
        except Exception:
            if service not in self._broken:
                self._broken.add(service)
                _log.failure("{service}: its metrics cannot be read", service=service)
            return []
