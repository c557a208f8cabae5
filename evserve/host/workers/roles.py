"""Which part this process plays: the only one, the parent of workers, or a worker."""

from typing import Any

from twisted.python.usage import Options

from evserve.host.application import RootService
from evserve.host.config import ServiceConfig
from evserve.host.logs import logs_to_terminal
from evserve.host.workers.assignment import current
from evserve.host.workers.launch import Launcher
from evserve.host.workers.parent import ParentRoot, stand_in
from evserve.host.workers.worker import WorkerRoot


def root_and_orders(
    options: Options, orders: list[ServiceConfig], reactor: Any
) -> tuple[RootService, list[ServiceConfig]]:
    """Return the root of this process's tree, and the services that belong into it."""
    twistd: dict[str, Any] = options.parent or {}
    log_format, drain = options["log-format"], options["drain"]
    assignment = current()
    if assignment is not None:
        return WorkerRoot(reactor, twistd, log_format, drain, assignment), orders
    if options["workers"]:
        root = ParentRoot(
            reactor,
            twistd,
            log_format,
            drain,
            size=options["workers"],
            launcher=Launcher(reactor, logs_to_terminal(twistd)),
        )
        return root, [stand_in(order) for order in orders]
    return RootService(reactor, twistd, log_format, drain), orders
