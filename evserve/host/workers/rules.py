"""Which services several processes may run side by side."""

from twisted.python.usage import UsageError

from evserve.host.config import ServiceConfig


def check_shareable(orders: list[ServiceConfig], where: str = "--workers") -> None:
    """Raise UsageError, with the reason, if a service cannot be run by workers.

    where: what asks for workers, for the message.

    A service whose plugin is stateless may still have options that need one process: its Options
    name them in a class attribute `one_process`.
    """
    for order in orders:
        if not order.plugin.listens:
            why = "does not listen through the host, so there is nothing to share"
        elif not order.plugin.stateless:
            why = "keeps state in one process, so several of it would disagree"
        else:
            given = [
                each for each in getattr(order.options, "one_process", ()) if order.options[each]
            ]
            if not given:
                continue
            why = f"needs one process for --{given[0]}"
        raise UsageError(f"{where}: {order.name!r} {why}")
