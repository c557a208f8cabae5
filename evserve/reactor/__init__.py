"""A Twisted reactor whose stream transports are uvloop's own: `twistd --reactor=uvloop`.

Twisted's asyncio reactor on a uvloop loop gains nothing, because it polls descriptors from Python.
Here bytes go from uvloop to the protocol and back with no Python frame between. Any Twisted
program can use it; it knows nothing of the rest of evserve.

Nothing here imports uvloop before it is asked for, so that a missing uvloop is one line.
"""

import os
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from evserve.reactor.core import UvloopReactor


def new_reactor() -> "UvloopReactor":
    """Return a reactor on a uvloop loop of its own; raises ImportError if there is no uvloop."""
    try:
        import uvloop
    except ImportError as error:
        raise ImportError("the uvloop reactor needs: pip install 'evserve[uvloop]'") from error
    from evserve.reactor.core import UvloopReactor

    _hold_standard_descriptors()
    return UvloopReactor(uvloop.new_event_loop())


def _hold_standard_descriptors() -> None:
    """Open /dev/null wherever descriptor 0, 1 or 2 is closed.

    The loop would take their numbers, and libuv aborts the process when it has to close one.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # POSIX gives the lowest free number: this one


def install() -> None:
    """Make it the reactor of this process; raises SystemExit, with one line, without uvloop.

    Anything else would come out of twistd with a page of help before it.
    """
    import asyncio

    try:
        reactor = new_reactor()
    except ImportError as error:
        raise SystemExit(str(error)) from error
    asyncio.set_event_loop(reactor.loop)
    from twisted.internet.main import installReactor

    installReactor(reactor)
