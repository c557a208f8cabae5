"""What /api/status says: the process and its services as values, and as JSON."""

import json
from collections.abc import Iterable

import attrs
from attrs import frozen
from prometheus_client.core import Metric

from evserve.host.admin.series import MetricValues, Number, metric_values
from evserve.host.application import Phase


# What the host counts for every listening service; /api/status has fields for it.
DOOR = (
    "evserve_connections",
    "evserve_connections_accepted",
    "evserve_connections_refused",
    "evserve_received_bytes",
)


@frozen
class Process:
    """The process that answers."""

    version: str
    pid: int
    uptime: float  # seconds
    reactor: str
    python: str
    twisted: str


@frozen
class ServiceStatus:
    """A service; the counts of connections are None if it does not listen through the host."""

    name: str
    plugin: str
    description: str
    listening: tuple[str, ...]
    connections: Number
    accepted: Number
    refused: Number
    received_bytes: Number
    metrics: tuple[MetricValues, ...]  # its own


@frozen
class Status:
    """All of it. reason: why the process is not ready, None if it is."""

    phase: Phase
    reason: str | None
    process: Process
    services: tuple[ServiceStatus, ...]

    def as_json(self) -> bytes:
        """Return it as JSON, the process's fields at the top."""
        known = attrs.asdict(self)
        known |= known.pop("process") | {"phase": self.phase.value}
        return json.dumps(known, allow_nan=False).encode()


@frozen
class ServiceMetrics:
    """What one service publishes, by the names of its metrics."""

    by_name: dict[str, MetricValues]

    @classmethod
    def of(cls, service: str, families: Iterable[Metric]) -> "ServiceMetrics":
        """Pick a service's samples out of the metrics of all services."""
        by_name = {}
        for family in families:
            own = [each for each in family.samples if each.labels.get("service") == service]
            by_name[family.name] = metric_values(family, own)
        return cls(by_name)

    @property
    def listens(self) -> bool:
        """Whether it has a door: a part of the host that counts its connections."""
        door = self.by_name.get("evserve_connections")
        return door is not None and bool(door.series)

    def total(self, name: str) -> Number:
        """Return the sum of one of the door's metrics; None if the service has no door."""
        if not self.listens:
            return None
        return sum(each.value or 0 for each in self.by_name[name].series)

    def own(self) -> tuple[MetricValues, ...]:
        """Return what the service itself publishes."""
        return tuple(
            each for name, each in self.by_name.items() if name not in DOOR and each.series
        )
