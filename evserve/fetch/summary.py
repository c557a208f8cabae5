"""What a run amounts to, in all and by host."""

from collections.abc import Iterator

from attrs import define, field

from evserve.fetch.result import Result


_HOSTS = 1000  # counted one by one; a million would need memory
_SHOWN = 20
_OTHERS = "other hosts"


@define
class Tally:
    """Results counted. seconds: what they would have taken one after another."""

    fetched: int = 0
    failed: int = 0
    received: int = 0  # bytes
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All of them."""
        return self.fetched + self.failed

    def add(self, result: Result) -> None:
        """Count one."""
        if result.error is None:
            self.fetched += 1
        else:
            self.failed += 1
        self.received += result.content_length
        self.seconds += result.elapsed


@define(eq=False)
class Summary:
    """Counts the results of a run."""

    total: Tally = field(factory=Tally)
    hosts: dict[str, Tally] = field(factory=dict)

    def add(self, result: Result) -> None:
        """Count one."""
        self.total.add(result)
        name = host_of(result.final_url or result.url)
        tally = self.hosts.get(name)
        if tally is None:
            if len(self.hosts) >= _HOSTS:
                name = _OTHERS
            tally = self.hosts.setdefault(name, Tally())
        tally.add(result)

    def lines(self, wall: float, done_before: int = 0) -> Iterator[str]:
        """Yield the summary for people; wall: seconds that the run took."""
        total = self.total
        yield (
            f"fetched {total.fetched} of {total.count} URLs, {size(total.received)}, "
            f"in {wall:.2f} s; one after another: {total.seconds:.2f} s{_times(total, wall)}"
        )
        if done_before:
            yield f"{done_before} URLs were done before, says the journal"
        if total.count:
            yield from self._table()

    def _table(self) -> Iterator[str]:
        ranked = sorted(self.hosts.items(), key=lambda item: -item[1].count)
        width = max(len("host"), *(len(name) for name, _ in ranked[:_SHOWN]))
        yield f"{'host':{width}}  {'fetched':>8}  {'failed':>7}  {'received':>10}  {'seconds':>8}"
        for name, tally in ranked[:_SHOWN]:
            yield (
                f"{name:{width}}  {tally.fetched:8}  {tally.failed:7}  "
                f"{size(tally.received):>10}  {tally.seconds:8.2f}"
            )
        if len(ranked) > _SHOWN:
            yield f"and {len(ranked) - _SHOWN} more hosts"


def host_of(url: str) -> str:
    """Return the host and port of a URL, as far as there are any."""
    parts = url.split("/", 3)
    return (parts[2] if len(parts) > 2 else "") or "-"  # noqa: PLR2004 - scheme, nothing, host


def size(count: int) -> str:
    """Return a number of bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004 - SI
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _times(total: Tally, wall: float) -> str:
    return f" ({total.seconds / wall:.1f} times as long)" if total.seconds > wall > 0 else ""
