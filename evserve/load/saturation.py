"""Whether the generator was itself the limit: its figures are then not the server's.

A closed loop that never sleeps cannot ask faster; an open loop that sends late did not keep the
rate it was asked for. Time spent waiting for a CPU counts as busy: whoever shares a core with the
server is as little a measure of it as whoever has none left.
"""

from evserve.load.stats import Summary
from evserve.load.usage import OwnUsage


BUSY = 0.9  # of one core
LATE = 0.010  # seconds


def busy_share(before: OwnUsage, after: OwnUsage) -> float:
    """Return the part of the time in which this process ran or waited for a CPU."""
    elapsed = after.at - before.at
    busy = after.cpu - before.cpu + after.waited - before.waited
    return busy / elapsed if elapsed > 0 else 0.0


def saturation(busy: float, lags: Summary | None) -> str | None:
    """Say why the generator was the limit, or None; `lags` are those of an open loop."""
    if lags is not None and lags.p99 > LATE:
        return f"1 % of the messages were sent more than {lags.p99 * 1000:.0f} ms late"
    if busy >= BUSY:
        return f"it ran, or waited for a CPU, {busy:.0%} of the time"
    return None
