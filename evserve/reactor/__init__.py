"""A Twisted reactor whose stream transports are uvloop's own: `twistd --reactor=uvloop`.

Twisted's asyncio reactor on a uvloop loop gains nothing, because it polls descriptors from Python.
Here bytes go from uvloop to the protocol and back with no Python frame between. Any Twisted
program can use it; it knows nothing of the rest of evserve.

Nothing here imports uvloop before it is asked for, so that a missing uvloop is one line.
"""

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

    return UvloopReactor(uvloop.new_event_loop())


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
