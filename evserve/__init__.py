"""evserve: an event-driven server on Twisted whose every service is a plugin file.

What plugin authors import:

    plugin      ServicePlugin and Handler, the descriptors in plugin files; discovery
    interfaces  IHost, what a service gets from the host; IDrainable, IReadiness
    options     parsers of option values
    testing     a host, clients and a queue in memory
    aio         Deferreds and asyncio in one process

The command, and its services, which do not import each other (but the lab uses load):

    host        the `twistd -n evserve` command: config, limits, drain, admin port, workers
    echo        the echo service
    queue       the queue service, which speaks beanstalkd's protocol
    work        the work service, which runs handlers on events
    inspect     the events command, which looks into a queue and mends it
    fetch       the fetch service and the Fetcher
    load, lab   the load generator; I/O models side by side
    reactor     the uvloop reactor
    web         a fast channel for twisted.web; the asgi service

What they share: events (queues of events for Python programs, and their engines), http (the HTTP
client), aio (Deferreds and asyncio), trust (what may be imported), backoff, endpoints, oneshot,
progress and writing.
"""

__version__ = "0.1.0"
