"""The engine for `beanstalk://host:port`: a client of beanstalkd, and of evserve's own queue.

engine.py      BeanstalkQueue, the EventQueue
pool.py        ConnectionPool: one shared connection, and one for each wait and reserved event
connection.py  Connection: pipelined commands, deadlines for their replies
protocol.py    the commands and replies as bytes, without a network

A `put`: BeanstalkQueue.put checks the event and makes a Command; ConnectionPool.on_shared gives
the shared connection, which it makes if there is none; Connection.run sends the command;
Connection.dataReceived parses the reply, whose outcome fires the caller's Deferred.
"""

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from evserve.events.beanstalk.engine import BeanstalkQueue
from evserve.events.engines import QueueURL
from evserve.events.errors import BadQueueURL
from evserve.events.event_queue import EventQueue


__all__ = ["BeanstalkQueue", "open_engine"]

DEFAULT_PORT = 11300


def open_engine(url: QueueURL, reactor: Any) -> EventQueue:
    """Return the queue at `url`, which connects when the first call needs it."""
    if not url.host or url.path not in ("", "/"):
        raise BadQueueURL(f"{url.text!r} is not a queue URL: beanstalk://HOST:PORT is expected")
    host, port = url.host, url.port or DEFAULT_PORT
    endpoint: IStreamClientEndpoint
    if isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(reactor, host, port)
    elif isIPAddress(host):
        endpoint = TCP4ClientEndpoint(reactor, host, port)
    else:
        endpoint = HostnameEndpoint(reactor, host, port)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return BeanstalkQueue(endpoint, reactor, f"the queue at {where}")
