"""Whether the process can be sent clients, or why not."""

from evserve.host.application import Phase, RootService


def reason_unready(root: RootService) -> str | None:
    """Return in a line why the services cannot take clients now; None if they can."""
    if root.failure is not None:
        return f"failed: {root.failure}"
    if root.phase is Phase.DRAINING:
        return f"draining: {_connections(root):g} left"
    silent = [
        each.limiter.name for each in root.listeners if len(each.ports) < len(each.endpoints)
    ]
    if silent:
        return f"starting: {', '.join(silent)} does not listen yet"
    return "starting" if root.phase is Phase.STARTING else None


def _connections(root: RootService) -> float:
    """Count by the metrics: unlike the limiters, they know of connections in other processes."""
    return sum(
        sample.value
        for family in root.metrics.collect()
        if family.name == "evserve_connections"
        for sample in family.samples
    )
