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
    ControlChannel.send              READY, then METRICS once a second; LEAVING after SIGTERM
    WorkerProcess.childDataReceived  in the supervisor: Totals sums the metrics
    Supervisor.leaving               it was told to end: another one starts while it drains
    WorkerProcess.processEnded       it died: another one starts after a delay (RESTART_DELAYS)
    Supervisor.stopService           sends DRAIN; later ABORT, and SIGKILL if that does not help
"""
