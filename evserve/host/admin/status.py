"""What /api/status and /readyz say: the process, its services and their metrics as values."""

import json
import math
import os
import platform
from collections.abc import Iterable
from typing import Any

import attrs
import twisted
from attrs import field, frozen
from prometheus_client.core import Metric, Sample

from evserve import __version__
from evserve.host.application import Phase, RootService
from evserve.host.config import ServiceConfig
from evserve.interfaces import IReadiness


# The metrics of every listening service, for which ServiceStatus has fields.
_CONNECTION_METRICS = {
    "connections": "evserve_connections",
    "accepted": "evserve_connections_accepted",
    "refused": "evserve_connections_refused",
    "received_bytes": "evserve_received_bytes",
}

Number = float | None  # JSON has no infinity and no NaN: they become None
Bucket = tuple[str, Number]  # the upper bound as Prometheus writes it, and the cumulative count


@frozen
class Series:
    """The values of a metric for one set of labels; a histogram has no `value`."""

    labels: dict[str, str]
    value: Number = None
    count: Number = None
    sum: Number = None
    buckets: tuple[Bucket, ...] = field(converter=tuple, default=())


@frozen
class MetricValues:
    """A metric of one service."""

    name: str
    type: str  # of prometheus_client: "gauge", "counter", "histogram", "summary", ...
    help: str
    series: tuple[Series, ...]


@frozen
class ServiceStatus:
    """A service; the counts are None if it does not listen through the host."""

    name: str
    plugin: str
    description: str
    listening: tuple[str, ...]
    connections: Number
    accepted: Number
    refused: Number
    received_bytes: Number
    metrics: tuple[MetricValues, ...]  # those that the service itself publishes


@frozen
class Status:
    """The process and its services, in the order of the JSON fields.

    reason: why the process is not ready, None if it is.  uptime: seconds.
    """

    phase: Phase
    reason: str | None
    services: tuple[ServiceStatus, ...]
    version: str
    pid: int
    uptime: float
    reactor: str
    python: str
    twisted: str

    def as_json(self) -> bytes:
        """Return the JSON of /api/status."""
        fields = attrs.asdict(self) | {"phase": self.phase.value}
        return json.dumps(fields, allow_nan=False).encode()


def current_status(root: RootService, configs: list[ServiceConfig], started_at: float) -> Status:
    """Return the status now; `started_at` is in the reactor's seconds."""
    families = list(root.metrics.collect())
    return Status(
        phase=root.phase,
        reason=unready_reason(root, families),
        services=tuple(_service_status(config, root, families) for config in configs),
        version=__version__,
        pid=os.getpid(),
        uptime=round(root.reactor.seconds() - started_at, 3),
        reactor=type(root.reactor).__name__,
        python=platform.python_version(),
        twisted=twisted.__version__,
    )


def _service_status(
    config: ServiceConfig, root: RootService, families: list[Metric]
) -> ServiceStatus:
    counts, own = service_metrics(config.name, families)
    listening = [each for each in root.listeners if each.limiter.name == config.name]
    return ServiceStatus(
        name=config.name,
        plugin=config.plugin.name,
        description=config.plugin.description,
        listening=tuple(address for each in listening for address in each.addresses),
        metrics=own,
        **counts,
    )


def unready_reason(root: RootService, families: Iterable[Metric]) -> str | None:
    """Return one line that says why the services cannot take clients now; None if they can.

    families: the metrics of all services, which include those of worker processes.
    """
    if root.failure is not None:
        return f"failed: {root.failure}"
    if root.phase is Phase.DRAINING:
        left = sum(sample.value for sample in _samples(families, "evserve_connections"))
        return f"draining: {left:g} left"
    waiting = [
        each.limiter.name for each in root.listeners if len(each.ports) < len(each.endpoints)
    ]
    if waiting:
        return f"starting: waiting for {', '.join(waiting)} to listen"
    if root.phase is Phase.STARTING:
        return "starting"
    paused = _samples(families, "evserve_accepting")
    names = [sample.labels["service"] for sample in paused if not sample.value]
    if names:
        return f"not accepting, because few file descriptors are free: {', '.join(names)}"
    for service in root:
        readiness = IReadiness(service, None)
        reason = None if readiness is None else readiness.unready_reason()
        if reason is not None:
            return f"{service.name}: {reason}"
    return None


def _samples(families: Iterable[Metric], name: str) -> list[Sample]:
    return [sample for family in families if family.name == name for sample in family.samples]


def service_metrics(
    service: str, families: Iterable[Metric]
) -> tuple[dict[str, Number], tuple[MetricValues, ...]]:
    """Return the counts of a service's connections by field of ServiceStatus, and its own metrics.

    families: the metrics of all services.  The counts are None if the service does not listen.
    """
    by_name = {}
    for family in families:
        samples = [each for each in family.samples if each.labels.get("service") == service]
        by_name[family.name] = metric_values(family, samples)
    connections = by_name.get("evserve_connections")
    counts: dict[str, Number] = dict.fromkeys(_CONNECTION_METRICS)
    if connections is not None and connections.series:
        for key, name in _CONNECTION_METRICS.items():
            counts[key] = sum(each.value or 0 for each in by_name[name].series)
    counted = {"evserve_accepting", *_CONNECTION_METRICS.values()}
    own = (each for each in by_name.values() if each.series and each.name not in counted)
    return counts, tuple(own)


def metric_values(family: Metric, samples: Iterable[Sample]) -> MetricValues:
    """Return the samples of a metric as one series for each set of labels.

    The label `service`, quantiles and times of creation are left out.
    """
    series: dict[object, dict[str, Any]] = {}
    for sample in samples:
        part = sample.name.removeprefix(family.name).removeprefix("_")
        if part == "created" or "quantile" in sample.labels:
            continue
        labels = {k: v for k, v in sample.labels.items() if k not in ("service", "le")}
        fields = series.setdefault(
            tuple(sorted(labels.items())), {"labels": labels, "buckets": []}
        )
        value = float(sample.value) if math.isfinite(sample.value) else None  # not a bool
        if part == "bucket":
            fields["buckets"].append((sample.labels["le"], value))
        elif part in ("count", "sum"):
            fields[part] = value
        elif part in ("", "total"):
            fields["value"] = value
    parsed = tuple(Series(**fields) for fields in series.values())
    return MetricValues(family.name, family.type, family.documentation, parsed)
