"""Metrics of all services, merged with the service's name as a label, and of the process."""

from collections.abc import Iterator

from attrs import define, field
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from twisted.logger import Logger


_log = Logger()


@define(eq=False)
class Metrics:
    """Registries by service name; a prometheus_client collector over all of them."""

    _registries: dict[str, CollectorRegistry] = field(init=False, factory=dict)
    _reported: set[str] = field(init=False, factory=set)  # services whose registry raised

    def of(self, service: str) -> CollectorRegistry:
        """Return the registry of a service; the first call makes it."""
        return self._registries.setdefault(service, CollectorRegistry())

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once, with the samples of all services that have it."""
        merged: dict[str, Metric] = {}
        for service, registry in self._registries.items():
            for metric in self._collect_service(service, registry):
                family = merged.setdefault(
                    metric.name,
                    Metric(metric.name, metric.documentation, metric.type, metric.unit),
                )
                family.samples += [
                    sample._replace(labels={"service": service, **sample.labels})
                    for sample in metric.samples
                ]
        yield from merged.values()

    def _collect_service(self, service: str, registry: CollectorRegistry) -> list[Metric]:
        """Return a service's metrics, none if its collectors raise."""
        try:
            return list(registry.collect())
        except Exception:
            if service not in self._reported:
                self._reported.add(service)
                _log.failure("{service}: cannot collect its metrics", service=service)
            return []


class ProcessMetrics(Collector):
    """`process_*` and `python_gc_*` of this process; a prometheus_client collector."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._collectors = ProcessCollector(registry=registry), GCCollector(registry=registry)

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        for collector in self._collectors:
            yield from collector.collect()
