"""A Twisted reactor whose stream transports are uvloop's own: `twistd --reactor=uvloop`.

Twisted's asyncio reactor on a uvloop loop gains nothing, because it polls descriptors from Python.
Here no Python frame stands between uvloop and the protocol. Any Twisted program can use it; it
imports nothing from the rest of evserve.

    core         UvloopReactor: the reactor's interfaces, turns, timers, children
    ports        the server side: listening ports, adopted sockets
    clients      the client side: connectors
    stream       Stream, a connection: reading, writing, producers, closing, TLS
    tcp, unix    what is particular to a kind of socket
    descriptors  file descriptors over UNIX sockets

The way of a byte through a server:

1. uvloop accepts on a copy of the port's socket and makes a `Stream`, to uvloop a protocol.
2. `Stream.connection_made` asks its owner, the port, for a protocol from the program's factory,
   and becomes the transport of that.
3. `Stream.set_uv_protocol` makes uvloop look up `data_received`: the protocol's bound
   `dataReceived`, or one line of Python in front of it if that may be replaced.
4. From then on uvloop calls `dataReceived`, which calls `transport.write`. The reactor gathers
   what is written; at the end of the turn `UvloopReactor.send_gathered` gives it to uvloop.
5. uvloop calls `pause_writing` when the kernel takes no more and `resume_writing` when it has sent
   everything, and `eof_received` and `connection_lost` at the end. The protocol's
   `connectionLost` comes last.

uvloop is imported by `new_reactor`, so that a missing uvloop is one line and not a traceback.
"""

import os
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from evserve.reactor.core import UvloopReactor

__all__ = ["install", "install_new_reactor", "new_reactor"]


def new_reactor() -> "UvloopReactor":
    """Return a reactor on a new uvloop loop; raises ImportError if uvloop is not installed."""
    import uvloop

    from evserve.reactor.core import UvloopReactor

    _open_standard_descriptors()
    return UvloopReactor(uvloop.new_event_loop())


def _open_standard_descriptors() -> None:
    """Open /dev/null wherever descriptor 0, 1 or 2 is closed.

    The loop would take their numbers, and libuv aborts the process when it has to close one.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # POSIX gives the lowest free number: this one


def install_new_reactor() -> None:
    """Make a new reactor the one of this process; raises ImportError as `new_reactor` does."""
    import asyncio

    reactor = new_reactor()
    asyncio.set_event_loop(reactor.loop)
    from twisted.internet.main import installReactor

    installReactor(reactor)


def install() -> None:
    """Make a new reactor the one of this process, as `--reactor=uvloop` does.

    Raises SystemExit, with one line, if uvloop is not installed: twistd prints a page of help
    before any other error.
    """
    try:
        install_new_reactor()
    except ImportError as error:
        raise SystemExit(f"the uvloop reactor: {error} (pip install uvloop)") from error
