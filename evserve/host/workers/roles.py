"""Which role this process has, and which services may run in workers."""

from typing import Any

from twisted.python.usage import Options, UsageError

from evserve.host.application import RootService
from evserve.host.config import ServiceConfig
from evserve.host.logs import logs_to_terminal
from evserve.host.workers.sockets import current_assignment
from evserve.host.workers.supervisor import Launcher, SupervisorRoot
from evserve.host.workers.worker import WorkerRoot


def choose_role(
    options: Options, orders: list[ServiceConfig], reactor: Any
) -> tuple[RootService, list[ServiceConfig]]:
    """Return the root of this process's service tree, and the services to build below it.

    The process is a worker, the supervisor of workers, or (without `--workers`) the only process.
    """
    twistd: dict[str, Any] = options.parent or {}
    common = (reactor, twistd, options["log-format"], options["drain"])
    assignment = current_assignment()
    if assignment is not None:
        return WorkerRoot(*common, assignment=assignment), orders
    if options["workers"]:
        launcher = Launcher(reactor, logs_to_terminal(twistd))
        root = SupervisorRoot(*common, workers=options["workers"], launcher=launcher)
        return root, [root.bind_only(order) for order in orders]
    return RootService(*common), orders


def check_shareable(orders: list[ServiceConfig], where: str = "--workers") -> None:
    """Raise UsageError with the reason if a service cannot run in workers.

    where: the option or config key that asks for workers, for the message.

    A service's plugin declares `stateless`. A class attribute `one_process` of its Options names
    the options that need a single process all the same.
    """
    for order in orders:
        single = [
            each for each in getattr(order.options, "one_process", ()) if order.options[each]
        ]
        if not order.plugin.listens:
            reason = "does not listen through the host, so there is nothing to share"
        elif not order.plugin.stateless:
            reason = "keeps its state in one process, so it cannot run in several"
        elif single:
            reason = f"needs one process for --{single[0]}"
        else:
            continue
        raise UsageError(f"{where}: {order.name!r} {reason}")
