"""The engine behind `beanstalk://host:port`: a client of beanstalkd, and of evserve's own queue.

replies.py and commands.py are the protocol, without a network. A connection runs commands in
turn, a dialer makes connections, consumers.py keeps one for each event that is reserved, and
engine.py is the EventQueue made of them.
"""

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from evserve.events.beanstalk.engine import BeanstalkQueue
from evserve.events.engines import QueueURL
from evserve.events.errors import BadQueueURL
from evserve.events.event_queue import EventQueue


DEFAULT_PORT = 11300


def open_engine(url: QueueURL, reactor: Any) -> EventQueue:
    """See evserve.events.engines; connects when the first call needs it."""
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
