"""The reactor: streams are uvloop's, and everything else is Twisted's asyncio reactor on its loop.

That reactor supplies timers, threads, UDP, standard input and output, processes and name
resolution, which are not on the path of a stream's bytes.
"""

import signal
import socket
from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet import error, process
from twisted.internet._signals import _MultiSignalHandling
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.logger import Logger
from twisted.python.failure import Failure
from uvloop import Loop

from evserve.reactor import install
from evserve.reactor.clients import TCPConnector, UNIXConnector
from evserve.reactor.ports import TCPPort, UNIXPort, adopt_connection
from evserve.reactor.stream import Stream


# Timers: Twisted's heap, and one timer of uvloop's for the earliest.
#
# Twisted's asyncio reactor asks for the time and walks to the earliest call whenever one is added.
# That costs as much as the rest of a small request; here adding a call that is not the earliest
# costs nothing more than the heap.

_MANY = 256


class Timers(AsyncioSelectorReactor):
    """IReactorTime on `loop`."""

    loop: Any
    _due: float | None = None  # when uvloop is to call, in seconds of the reactor's clock
    _handle: Any = None

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002  # Twisted's name for it
        *args: object,
        **kwargs: object,
    ) -> DelayedCall:
        """See IReactorTime."""
        call = ReactorBase.callLater(self, delay, callable, *args, **kwargs)
        if self._due is None or call.time < self._due:
            self._arrange(call.time, delay)
        elif len(self._newTimedCalls) == _MANY:
            # Time to file them, and to forget those that were cancelled.
            self._arrange(self.seconds(), 0)
        return call

    def _arrange(self, due: float, delay: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._due = due
        self._handle = self.loop.call_later(delay, self._onTimer)

    def _onTimer(self) -> None:
        self._due = self._handle = None
        self.runUntilCurrent()
        self._reschedule()

    def _reschedule(self) -> None:
        delay = self.timeout()
        if delay is None:
            return
        due = self.seconds() + delay
        if self._due is None or due < self._due:
            self._arrange(due, delay)


# Learning that a child process has ended, on a loop that takes the wake-up descriptor.
#
# Twisted notices SIGCHLD through `signal.set_wakeup_fd`; `run_forever` of uvloop takes that for
# itself, so Twisted's waker would never fire. A Python handler does: uvloop runs those promptly.


@define(eq=False)
class ChildSignals:
    """Reaps children on SIGCHLD while the reactor runs (Twisted's SignalHandling)."""

    reactor: Any

    def install(self) -> None:
        """Handle the signal, and reap those that ended before."""
        signal.signal(signal.SIGCHLD, self._child_ended)
        signal.siginterrupt(signal.SIGCHLD, False)
        process.reapAllProcesses()

    def uninstall(self) -> None:
        """Leave the signal alone again."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _child_ended(self, _signal: int, _frame: object) -> None:
        # Not here: a signal interrupts any code, and protocols expect their own turn.
        self.reactor.callFromThread(process.reapAllProcesses)


# Who is given the dotted name of a reactor's class, as Scrapy in TWISTED_REACTOR, looks for
# `install` beside it.
__all__ = ["UvloopReactor", "install"]

_log = Logger()


class UvloopReactor(Timers):
    """Every interface of Twisted's POSIX reactors, on `loop`, which nothing else may run."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.streams: set[Stream] = set()
        self.ports: set[TCPPort | UNIXPort] = set()
        loop.set_exception_handler(log_exception)
        super().__init__(loop)

    def _signalsFactory(self) -> Any:
        # The parent's would add Twisted's SIGCHLD waker.
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), ChildSignals(self)))  # noqa: SLF001  # the seam Twisted's own reactors use

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> TCPPort:
        """See IReactorTCP."""
        listening = TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: Any, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> TCPConnector:
        """See IReactorTCP."""
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        """See IReactorUNIX."""
        listening: Any = UNIXPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0
    ) -> Any:
        """See IReactorUNIX."""
        connect: Any = UNIXConnector
        connector = connect(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See IReactorSocket."""
        self._require(addressFamily)
        tcp: Any = TCPPort
        unix: Any = UNIXPort
        if addressFamily == socket.AF_UNIX:
            port = unix._fromListeningDescriptor(self, fileDescriptor, factory)  # noqa: SLF001  # Twisted's reactors do
        else:
            port = tcp._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)  # noqa: SLF001  # likewise
        port.startListening()
        return port

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See IReactorSocket; the protocol is made in the next turn."""
        self._require(addressFamily)
        return adopt_connection(self, fileDescriptor, addressFamily, factory)

    def _require(self, family: Any) -> None:
        if family not in self._supportedAddressFamilies:
            raise error.UnsupportedAddressFamily(family)

    def addReader(self, reader: Any) -> None:
        """See IReactorFDSet; native streams and ports have no descriptor to poll."""
        if isinstance(reader, Stream):
            reader.startReading()
        else:
            AsyncioSelectorReactor.addReader(self, reader)

    def removeReader(self, reader: Any) -> None:
        """See IReactorFDSet."""
        if isinstance(reader, Stream):
            reader.stopReading()
        else:
            AsyncioSelectorReactor.removeReader(self, reader)

    def getReaders(self) -> list[Any]:
        """See IReactorFDSet."""
        reading = [each for each in self.streams if each.reading]
        return [*AsyncioSelectorReactor.getReaders(self), *self.ports, *reading]

    def removeAll(self) -> list[Any]:
        """See IReactorFDSet; how a reactor that stops finds what is still open."""
        native = [*self.ports, *self.streams]
        for each in native:
            each.stopReading()
        self.streams.clear()
        return [*AsyncioSelectorReactor.removeAll(self), *native]


def log_exception(_loop: object, context: dict[str, Any]) -> None:
    """Log what uvloop caught: Twisted's promise is that an exception ends no reactor."""
    problem = context.get("exception")
    message = context.get("message", "Unhandled exception in the event loop")
    if problem is None:
        _log.error("{message}", message=message)
    else:
        _log.failure(
            "{message}", Failure(problem, type(problem), problem.__traceback__), message=message
        )
