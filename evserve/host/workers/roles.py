"""Which role this process has, and which services may run in workers."""

from typing import Any

from twisted.python.usage import Options, UsageError

from evserve.host.application import RootService
from evserve.host.config import ServiceConfig
from evserve.host.logs import logs_to_terminal
from evserve.host.workers.messages import current_assignment
from evserve.host.workers.supervisor import Launcher, SupervisorRoot
from evserve.host.workers.worker import WorkerRoot


def choose_role(
    options: Options, configs: list[ServiceConfig], reactor: Any
) -> tuple[RootService, list[ServiceConfig]]:
    """Return the root of this process's service tree, and the services to build below it.

    The process is a worker, the supervisor of workers, or (without `--workers`) the only process.
    """
    twistd: dict[str, Any] = options.parent or {}
    common = (reactor, twistd, options["log-format"], options["drain"])
    assignment = current_assignment()
    if assignment is not None:
        return WorkerRoot(*common, assignment=assignment), configs
    if options["workers"]:
        launcher = Launcher(reactor, logs_to_terminal(twistd))
        root = SupervisorRoot(*common, workers=options["workers"], launcher=launcher)
        return root, [root.bind_only(config) for config in configs]
    return RootService(*common), configs


def check_shareable(configs: list[ServiceConfig], where: str = "--workers") -> None:
    """Raise UsageError with the reason if a service cannot run in workers.

    where: the option or config key that asks for workers, for the message.

    A service's plugin declares `stateless`. A class attribute `one_process` of its Options names
    the options that need a single process all the same.
    """
    for config in configs:
        single = [
            each for each in getattr(config.options, "one_process", ()) if config.options[each]
        ]
        if not config.plugin.listens:
            reason = "does not listen through the host, so there is nothing to share"
        elif not config.plugin.stateless:
            reason = "keeps its state in one process, so it cannot run in several"
        elif single:
            reason = f"needs one process for --{single[0]}"
        else:
            continue
        raise UsageError(f"{where}: {config.name!r} {reason}")
