"""The metrics of the process as text, in whichever format a scraper asks for.

`prometheus_client` brings a Twisted resource, but importing that installs a reactor.
"""

import re

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics

from evserve.host.admin.answer import Answer
from evserve.host.metrics import Metrics


PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = re.compile(r"\s*application/openmetrics-text\s*(;.*)?", re.IGNORECASE)
_REFUSED = re.compile(r";\s*q=0(\.0*)?\s*(;|$)", re.IGNORECASE)


def registry_of(metrics: Metrics) -> CollectorRegistry:
    """Return a registry of the services' metrics and of the process's own."""
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry, accept: str) -> Answer:
    """Return all metrics: as OpenMetrics if `accept` names that, else as Prometheus text."""
    if any(
        _OPENMETRICS.fullmatch(each) and not _REFUSED.search(each) for each in accept.split(",")
    ):
        body = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # half annotated
        return Answer(body, content_type=openmetrics.CONTENT_TYPE_LATEST)
    body = generate_latest(registry)
    return Answer(body, content_type=PROMETHEUS)
