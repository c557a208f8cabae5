"""The reactor: streams are uvloop's, and everything else is Twisted's asyncio reactor on its loop.

That reactor supplies thread pools, UDP, standard input and output, processes and name resolution,
which are not on the path of a stream's bytes.

Timers are Twisted's heap, and one timer of uvloop's for the earliest call. Twisted's asyncio
reactor walks to the earliest call whenever one is added, which costs as much as the rest of a
small request. Here a call that is not the earliest costs no more than the heap. Calls are due by
the wall clock, which may be set; uvloop's timer goes by the monotonic clock.

A child's end is noticed by a pidfd, which needs no signal, so other code in the process (asyncio's
subprocesses) may have SIGCHLD. Systems without pidfds (macOS, Linux before 5.3) use SIGCHLD.
"""

import asyncio
import errno
import os
import signal
import socket
from collections import defaultdict
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from math import ceil, floor
from time import monotonic
from typing import Any

from attrs import define
from twisted.internet import error, process
from twisted.internet._signals import _MultiSignalHandling
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IReactorDaemonize
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from uvloop import Loop
from zope.interface import implementer

from evserve.reactor import install
from evserve.reactor.clients import TCPConnector, UNIXConnector
from evserve.reactor.ports import TCPPort, UNIXPort, adopt_connection
from evserve.reactor.stream import Stream


# Programs that are given the dotted name of a reactor's class, as Scrapy is in TWISTED_REACTOR,
# look for `install` beside it.
__all__ = ["UvloopReactor", "install"]

_RETRY = 0.1  # seconds until a child is looked for again for which there was no descriptor
_LONGEST = 1e6  # seconds that a timer of uvloop's may take
_MAX_NEW_CALLS = 256  # DelayedCalls that may wait to be filed in Twisted's heap

_log = Logger()


@implementer(IReactorDaemonize)
class UvloopReactor(AsyncioSelectorReactor):
    """Every interface of Twisted's POSIX reactors, on `loop`, which nothing else may run."""

    _timer: Any = None  # uvloop's
    _timer_due: float | None = None  # in seconds of the monotonic clock
    # Timers and ends of turns belong to no connection. So they run in a context of their own, not
    # in that of the connection which happens to be the first to ask for one.
    _context: Context | None = None

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.streams: set[Stream] = set()
        self.gather: Callable[[tuple[Stream, bytes]], None] = self._gather_first
        self._writes: list[tuple[Stream, bytes]] = []
        self._to_continue: dict[Stream, None] = {}  # a set that keeps the order
        self._asked_for_end = False
        self.turns = 0  # in which something was written
        self._has_pidfd = _has_pidfd()
        self.ports: set[TCPPort | UNIXPort] = set()
        loop.set_exception_handler(_log_loop_exception)
        super().__init__(loop)

    # IReactorCore

    @override
    def run(self, installSignalHandlers: bool = True) -> None:
        self.startRunning(installSignalHandlers)
        self._context = copy_context()
        # As in Twisted, only `stop` and `crash` end a reactor: not an exception, and not a stop of
        # the loop that was asked for before it ran, as a second `crash` does.
        while self._started:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit):  # uvloop catches all others
                _log.failure("Unexpected error in main loop.")
        self._justStopped = False

    @override
    def iterate(self, delay: float = 0) -> None:
        self.loop.call_later(delay, self.loop.stop)
        self.loop.run_forever()

    # IReactorDaemonize

    def beforeDaemonize(self) -> None:
        """Nothing: the loop has not run, and Linux leaves its descriptors to the daemon."""

    def afterDaemonize(self) -> None:
        """Make the loop the process's again, which a fork undoes (since Python 3.12)."""
        asyncio.set_event_loop(self.loop)

    # What streams write, until the end of the turn

    def _gather_first(self, write: tuple[Stream, bytes]) -> None:
        self._ask_for_end()
        self._writes.append(write)
        self.gather = self._writes.append

    def gathered_from(self, stream: Stream) -> list[bytes]:
        """Return what a stream has written in this turn."""
        return [data for each, data in self._writes if each is stream]

    def take_gathered(self, stream: Stream) -> list[bytes]:
        """Return what a stream has written in this turn, and leave sending it to the caller."""
        taken = self.gathered_from(stream)
        self._writes[:] = [write for write in self._writes if write[0] is not stream]
        return taken

    def send_gathered(self) -> None:
        """Send what was gathered, with one system call for each stream."""
        if not self._writes:
            return
        writes, self._writes = self._writes, []
        self.gather = self._gather_first
        if len(dict(writes)) == len(writes):
            for stream, data in writes:
                stream.uv.write(data)
        else:
            gathered = defaultdict(list)
            for stream, data in writes:
                gathered[stream].append(data)
            for stream, chunks in gathered.items():
                stream.uv.write(b"".join(chunks))

    def continue_later(self, stream: Stream) -> None:
        """Call `continue_writing` of a stream at the end of the turn, when its writes are sent."""
        self._ask_for_end()
        self._to_continue[stream] = None

    def _ask_for_end(self) -> None:
        if not self._asked_for_end:
            self._asked_for_end = True
            self.loop.call_soon(self._end_turn, context=self._context)

    def _end_turn(self) -> None:
        self._asked_for_end = False
        self.turns += 1
        self.send_gathered()
        streams, self._to_continue = self._to_continue, {}
        for stream in streams:
            stream.continue_writing()

    # IReactorProcess

    @override
    def _signalsFactory(self) -> Any:
        # The parent's would add Twisted's SIGCHLD waker.
        children = _ChildrenKept() if self._has_pidfd else _ChildSignals(self)
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), children))  # noqa: SLF001  # the seam Twisted's own reactors use

    @override
    def spawnProcess(self, *arguments: Any, **named: Any) -> Any:
        child: Any = AsyncioSelectorReactor.spawnProcess(self, *arguments, **named)
        if self._has_pidfd:
            self._watch_child(child)
        return child

    def _watch_child(self, child: Any) -> None:
        if child.pid is None:
            return  # Twisted has reaped it
        try:
            descriptor = os.pidfd_open(child.pid)
        except OSError as problem:
            child.reapProcess()
            if problem.errno in (errno.EMFILE, errno.ENFILE):
                self.loop.call_later(_RETRY, self._watch_child, child)
        else:
            self.loop.add_reader(descriptor, self._child_ended, child, descriptor)

    def _child_ended(self, child: Any, descriptor: int) -> None:
        self.loop.remove_reader(descriptor)
        os.close(descriptor)
        if child.pid is not None:
            child.reapProcess()

    # IReactorTCP, IReactorUNIX

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> TCPPort:
        listening = TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: Any, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> TCPConnector:
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        listening: Any = UNIXPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0
    ) -> Any:
        connect: Any = UNIXConnector
        connector = connect(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    # IReactorSocket

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        self._require(addressFamily)
        tcp: Any = TCPPort
        unix: Any = UNIXPort
        if addressFamily == socket.AF_UNIX:
            port = unix._fromListeningDescriptor(self, fileDescriptor, factory)  # noqa: SLF001  # Twisted's reactors do
        else:
            port = tcp._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)  # noqa: SLF001  # as above
        port.startListening()
        return port

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        # The protocol is built now, but its connectionMade is called in the next turn.
        self._require(addressFamily)
        return adopt_connection(self, fileDescriptor, addressFamily, factory)

    def _require(self, family: Any) -> None:
        if family not in self._supportedAddressFamilies:
            raise error.UnsupportedAddressFamily(family)

    # IReactorFDSet. Native streams and ports have no descriptor to poll.

    @override
    def addReader(self, reader: Any) -> None:
        if isinstance(reader, Stream):
            reader.startReading()
        else:
            AsyncioSelectorReactor.addReader(self, reader)

    @override
    def removeReader(self, reader: Any) -> None:
        if isinstance(reader, Stream):
            reader.stopReading()
        else:
            AsyncioSelectorReactor.removeReader(self, reader)

    @override
    def _readOrWrite(self, selectable: Any, read: bool) -> None:
        # Twisted's other reactors end a connection by any exception, this one's parent by most.
        try:
            AsyncioSelectorReactor._readOrWrite(self, selectable, read)  # noqa: SLF001  # the parent's
        except BaseException as problem:
            _log.failure("Unhandled exception in {selectable}", selectable=selectable)
            disconnect: Any = self._disconnectSelectable
            disconnect(selectable, problem, read)

    @override
    def getReaders(self) -> list[Any]:
        reading = [each for each in self.streams if each.reading]
        return [*AsyncioSelectorReactor.getReaders(self), *self.ports, *reading]

    @override
    def removeAll(self) -> list[Any]:
        # A reactor that stops, and trial, find by this what is still going on.
        writing = {*dict(self._writes), *self._to_continue}
        active = [each for each in self.streams if each.reading or each.busy or each in writing]
        native = [*self.ports, *active]
        for each in native:
            each.stopReading()
        self.streams.clear()
        return [*AsyncioSelectorReactor.removeAll(self), *native]

    # IReactorFromThreads

    @override
    def callFromThread(  # type: ignore[override]  # Twisted's two have different names for it
        self, f: Callable[..., Any], *args: object, **kwargs: object
    ) -> None:
        # Twisted's asyncio reactor makes a timer of it, which costs more and comes a turn later.
        call = partial(_call_logged, f, *args, **kwargs)
        self.loop.call_soon_threadsafe(call, context=self._context)

    # IReactorTime

    @override
    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],
        *args: object,
        **kwargs: object,
    ) -> DelayedCall:
        call = ReactorBase.callLater(self, delay, callable, *args, **kwargs)
        due = monotonic() + delay
        if self._timer_due is None or due < self._timer_due:
            self._set_timer(due)
        elif len(self._newTimedCalls) == _MAX_NEW_CALLS:
            # Let the next turn file them, and forget those that were cancelled.
            self._set_timer(0)
        return call

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        now = monotonic()
        delay = min(due - now, _LONGEST)
        if delay > 0:
            # uvloop counts whole milliseconds: rounded down, the timer would come before the call.
            delay = (ceil((now + delay) * 1000) - floor(now * 1000)) / 1000
        self._timer = self.loop.call_later(delay, self._onTimer, context=self._context)

    @override
    def _onTimer(self) -> None:
        self._timer_due = self._timer = None
        self.runUntilCurrent()
        self._reschedule()

    @override
    def _reschedule(self) -> None:
        delay = self.timeout()
        if delay is None:
            return
        due = monotonic() + delay
        if self._timer_due is None or due < self._timer_due:
            self._set_timer(due)


class _ChildrenKept:
    """Has children wait until the reactor asks for their status (Twisted's SignalHandling)."""

    def install(self) -> None:
        # A process may have been started with SIGCHLD ignored, which discards the status.
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def uninstall(self) -> None:
        pass


@define(eq=False)
class _ChildSignals:
    """Reaps children on SIGCHLD while the reactor runs (Twisted's SignalHandling).

    Twisted notices SIGCHLD through `signal.set_wakeup_fd`, which uvloop's `run_forever` takes for
    itself, so Twisted's waker would never fire. uvloop runs Python's signal handlers promptly.
    """

    reactor: Any

    def install(self) -> None:
        signal.signal(signal.SIGCHLD, self._child_ended)
        signal.siginterrupt(signal.SIGCHLD, False)
        process.reapAllProcesses()  # those that ended before

    def uninstall(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _child_ended(self, _signal: int, _frame: object) -> None:
        # Not here: a signal interrupts any code, and protocols expect a turn of their own.
        self.reactor.callFromThread(process.reapAllProcesses)


def _has_pidfd() -> bool:
    """Return whether the system has pidfds."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _call_logged(f: Callable[..., Any], *args: object, **kwargs: object) -> None:
    """Call `f`; not even SystemExit may end a Twisted reactor."""
    try:
        f(*args, **kwargs)
    except BaseException:
        _log.failure("Unhandled error in a call from a thread")


def _log_loop_exception(_loop: object, context: dict[str, Any]) -> None:
    """Log what uvloop caught: an exception must not end a Twisted reactor."""
    problem = context.get("exception")
    text = context.get("message", "Unhandled exception in the event loop")
    for kind in ("task", "future", "asyncgen"):  # which names the function; a message may not
        if kind in context:
            text += f"\n{kind}: {context[kind]!r}"
    if problem is None:
        _log.error("{text}", text=text)
    else:
        _log.failure("{text}", Failure(problem, type(problem), problem.__traceback__), text=text)
