"""`--workers N`: several processes that share the listening sockets of stateless services.

The supervisor, the process that the user starts, binds the sockets, accepts nothing and watches
the workers. A worker is the same command line in another process, which accepts from the
inherited sockets.

    roles       which role this process has; which services may run in workers
    supervisor  starts, replaces and stops the workers; binds the sockets for them
    worker      serves from inherited sockets; ends when the supervisor ends
    sockets     sharing a listening socket: bound by the supervisor, inherited by the workers
    messages    what supervisor and worker tell each other: the assignment, the control channel
    totals      the metrics of all workers, summed

The way of a worker through its life:

    roles.choose_role                called by makeService: this process is the supervisor
    SupervisorRoot.endpoint          binds the socket (sockets.BindOnlyReactor)
    Supervisor.start                 once the reactor runs
    Launcher.start                   the same command line, with an Assignment in its environment
    worker.set_worker_options        in the worker: what the supervisor has done is not done again
    WorkerRoot.endpoint              accepts on that socket (sockets.InheritedSocketReactor)
    ControlChannel.send              READY, then METRICS once a second
    WorkerProcess.childDataReceived  in the supervisor: Totals sums the metrics
    WorkerProcess.processEnded       it died: another one starts after a delay (RESTART_DELAYS)
    Supervisor.stopService           sends DRAIN; later ABORT, and SIGKILL if that does not help
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from evserve.host.workers.messages import current_assignment as current_assignment
    from evserve.host.workers.roles import check_shareable as check_shareable
    from evserve.host.workers.roles import choose_role as choose_role
    from evserve.host.workers.worker import set_worker_options as set_worker_options

_MODULES = {
    "check_shareable": "roles",
    "choose_role": "roles",
    "current_assignment": "messages",
    "set_worker_options": "worker",
}


def __getattr__(name: str) -> Any:
    # Lazy: the command line is parsed, or refused, before the rest of the host is needed.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
