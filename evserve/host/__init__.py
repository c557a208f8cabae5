"""The host: the `twistd -n evserve` command, and everything that services have in common.

- command: the options of the host; builds the service tree
- config: command line or TOML file -> services with parsed options
- options: the listening options of services; reading option classes
- application: the service tree, its start and drain; the host that services see
- listener: the service that listens; ports on inherited sockets
- connections: limits per service, idle time-outs, file descriptors, drain of connections
- drain: which connections have work in flight
- hosted: services of `twistd` plugins, their ports and connections
- endpoints: endpoint strings
- certificates: those of TLS endpoints, read again on SIGHUP
- plugins: folders of plugin files; the `services` command
- reactor: the reactor that the process installs by default
- process: one-line errors, exit status, standard streams, file limit, paths
- signals: the handlers of signals; the terminal that the process may lose
- logs: format and destination of the log; log files
- metrics: the metrics of all services, merged; those of the process
- systemd: readiness, watchdog, socket activation
- admin: status page, metrics and health over HTTP
- workers: `--workers N`

The way of a connection: `command.makeService` makes a RootService and, through it, each service; a
service calls `ServiceHost.listen`, which returns a `ListenerService`. That listens on its
endpoints. Twisted accepts a client and calls `ConnectionLimiter.buildProtocol`, which refuses it
or wraps the service's protocol in a `Connection`. What the client sends passes through
`Connection.dataReceived`; what the protocol writes goes to the transport directly. On SIGTERM,
`RootService.stopService` stops the services in reverse order: each closes its ports and drains its
connections, for at most `--drain` seconds.

Nothing imports this package but the command, which `twistd` loads by its name.
"""
