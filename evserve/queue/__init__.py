"""The queue: durable events that producers put and consumers reserve, over beanstalkd's protocol.

    service    the service: options, start, stop, SIGUSR1
    protocol   a Twisted transport on one end, a Session on the other
    session    one connection's commands and replies, and the table of verbs
    parser     bytes in, commands out; the grammar of the command lines
    core       the pure state machine: every event, tube and client, and the commands on them
    model      states and their transitions, events, clients, tubes, limits
    engine     drives the core by the clock; group commit
    store      what one commit writes, what a store is, and who calls it
    sqlite     the durable store: one file, its lock, its disk reserve
    stats      replies to the stats commands, Prometheus metrics
    embedded   `sqlite:` and `memory:` as an EventQueue, without a port

The way of a put:

    transport calls Session.feed (QueueProtocol made the session); Parser takes the command out
    VERBS names Session.put, which calls Core.put: a Change, not in any tube yet
    Engine.submit adds the Change's row to a Batch; Engine.pump schedules its commit
    ThreadWriter passes the Batch to SQLiteStore.write: one transaction
    Engine applies each Change with Core.apply, which files the event in its Tube and
    answers the client that waits for it longest; Session.resume sends INSERTED
"""

from importlib import import_module
from typing import Any


# Imported at first use, so that an embedded queue does not load the service.
_MODULES = {
    "Core": "core",
    "EmbeddedQueue": "embedded",
    "Engine": "engine",
    "QueueService": "service",
    "SQLiteStore": "sqlite",
    "Store": "store",
    "StoreError": "store",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
