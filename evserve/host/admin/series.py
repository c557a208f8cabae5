"""Metrics as values that a chart can be drawn from: what /api/status says of them."""

import math
from collections.abc import Iterable

from attrs import define, field, frozen
from prometheus_client.core import Metric
from prometheus_client.samples import Sample


Number = float | None  # JSON knows no infinity and no NaN: they become None
Bucket = tuple[str, Number]  # the upper bound as the exposition writes it, the count up to there


@frozen
class Series:
    """The values of a metric for one set of labels; a histogram has no `value`."""

    labels: dict[str, str]
    value: Number = None
    count: Number = None
    sum: Number = None
    buckets: tuple[Bucket, ...] = ()


@frozen
class MetricValues:
    """A metric of one service."""

    name: str
    type: str  # of prometheus_client: "gauge", "counter", "histogram", "summary", ...
    help: str
    series: tuple[Series, ...]


@define
class _Draft:
    """A Series while its samples come in."""

    labels: dict[str, str]
    numbers: dict[str, Number] = field(factory=dict)
    buckets: list[Bucket] = field(factory=list)

    def add(self, part: str, sample: Sample) -> None:
        if part == "bucket":
            self.buckets.append((sample.labels["le"], number(sample.value)))
        else:
            self.numbers["value" if part in ("", "total") else part] = number(sample.value)

    def done(self) -> Series:
        return Series(
            self.labels,
            self.numbers.get("value"),
            self.numbers.get("count"),
            self.numbers.get("sum"),
            tuple(self.buckets),
        )


def metric_values(family: Metric, samples: Iterable[Sample]) -> MetricValues:
    """Gather the samples of a metric into one series for each set of labels.

    The label `service` is left out, as are quantiles and times of creation.
    """
    drafts: dict[tuple[tuple[str, str], ...], _Draft] = {}
    for sample in samples:
        part = sample.name.removeprefix(family.name).removeprefix("_")
        if part == "created" or "quantile" in sample.labels:
            continue
        labels = {k: v for k, v in sample.labels.items() if k not in ("service", "le")}
        draft = drafts.setdefault(tuple(sorted(labels.items())), _Draft(labels))
        draft.add(part, sample)
    series = tuple(draft.done() for draft in drafts.values())
    return MetricValues(family.name, family.type, family.documentation, series)


def number(value: float) -> Number:
    """Return `value`, or None if JSON cannot express it."""
    return value if math.isfinite(value) else None
