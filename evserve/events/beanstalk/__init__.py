"""The engine for `beanstalk://host:port`: a client of beanstalkd, and of evserve's own queue.

endpoints.py   where the server is: TCP, TLS (`beanstalk+tls:`), a UNIX socket (`beanstalk+unix:`)
engine.py      BeanstalkQueue, the EventQueue
pool.py        ConnectionPool: one shared connection, and one for each wait and its events
connection.py  Connection: pipelined commands, deadlines for their replies
protocol.py    the commands and replies as bytes, without a network

A `put`: BeanstalkQueue.put checks the event and makes a Command; ConnectionPool.on_shared gives
the shared connection, which it makes if there is none; Connection.run sends the command;
Connection.dataReceived parses the reply, whose outcome fires the caller's Deferred.
"""

from typing import Any

from evserve.events.beanstalk.endpoints import make_endpoint
from evserve.events.beanstalk.engine import BeanstalkQueue
from evserve.events.engines import QueueURL
from evserve.events.event_queue import EventQueue


__all__ = ["BeanstalkQueue", "open_engine"]


def open_engine(url: QueueURL, reactor: Any) -> EventQueue:
    """Return the queue at `url`, which connects when the first call needs it."""
    endpoint, where = make_endpoint(url, reactor)
    return BeanstalkQueue(endpoint, reactor, f"the queue at {where}")
