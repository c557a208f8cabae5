"""The queue: durable events that producers put and consumers reserve, over beanstalkd's protocol.

service    QueueService, Options: start, stop, drain; StandByService, on Postgres
protocol   QueueProtocol: a Twisted transport on one end, a Session on the other
session    Session: one connection's commands and replies; VERBS, the table of verbs
parser     Parser: bytes in, commands out; the grammar of the command lines
core       Core: the pure state machine of all events, tubes and clients, and their commands
model      Event, Client, Tube, Limits; states and their transitions
broker     Broker: runs the core by the clock; group commit
store      Batch, what one commit writes; Store and Writer, the seams; MemoryStore, ThreadWriter
sqlite     SQLiteStore: one file, its lock, its disk reserve
postgres   PostgresStore: a database; Candidate, a server that stands by until it is the active one
stats      replies to the stats commands; Prometheus metrics
outbox     Outbox: puts the events that other programs insert into the store's table `outbox`
embedded   EmbeddedQueue: `sqlite:` and `memory:` as an EventQueue, without a port
transactions  what a handler writes into the store's file, and its event, in one commit

The way of a put:

1. The transport calls Session.feed. Parser.next_command takes out the command, and VERBS names
   Session.put.
2. Core.put returns a Change; its event is not in any tube yet.
3. Broker.submit adds the row of the Change to a Batch; Broker.pump schedules the commit.
4. ThreadWriter passes the Batch to SQLiteStore.write: one transaction.
5. Broker calls Core.apply with each Change: it files the event in its Tube and serves the client
   that has waited longest. Session.resume sends INSERTED.

Programs use a queue through evserve.events, which imports `embedded` only when a URL asks for it.
"""

from importlib import import_module
from typing import Any


# Imported at first use, so that an embedded queue does not load the service.
_MODULES = {
    "Broker": "broker",
    "Core": "core",
    "EmbeddedQueue": "embedded",
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
