"""Deferreds and asyncio in one process: each can be awaited where the other is at home.

`as_deferred` runs a coroutine in an `asyncio.Task`, `as_future` makes a future of a Deferred, and
`TaskService` runs a coroutine as long as a service runs. The reactor needs a loop of asyncio's:
evserve's default has one, and `twistd --reactor=asyncio`.

Once this module is imported, `await deferred` works in every task of that loop, those of
`asyncio.gather`, task groups and anyio included. Of what a coroutine yields, a task asks for four
names, of which Deferreds have `cancel`; this module adds the others. Twisted's own coroutines do
not look at them. Tasks of another loop, in another thread, get a RuntimeError.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.interfaces import IHost
from evserve.plugin import one_line


__all__ = ["NoAsyncioLoop", "TaskService", "as_deferred", "as_future", "reactor_loop"]

T = TypeVar("T")

_log = Logger()

_INSTALLED = "twisted.internet.reactor"


class NoAsyncioLoop(RuntimeError):  # noqa: N818 - read by operators, as Twisted's names are
    """What was to run needs asyncio, and the reactor has no loop of it."""

    def __init__(self, what: str, reactor: object) -> None:
        """Name what needs it, such as `this handler`, and the reactor."""
        if reactor is None:
            reactor = sys.modules.get(_INSTALLED)
        if reactor is None:
            why = "no reactor is installed (fix: evserve.reactor.install())"
        else:
            why = (
                f"{type(reactor).__name__} has no loop of it "
                "(start twistd without --reactor, or with --reactor=asyncio)"
            )
        super().__init__(f"{what} needs asyncio, and {why}")


def reactor_loop(reactor: object = None) -> asyncio.AbstractEventLoop | None:
    """Return the asyncio loop that a reactor runs on, None if it runs on none.

    reactor: by default the one that is installed.
    """
    if reactor is None:
        reactor = sys.modules.get(_INSTALLED)
    loop: asyncio.AbstractEventLoop | None = getattr(reactor, "_asyncioEventloop", None)
    return loop


def as_deferred(awaitable: Awaitable[T], reactor: object = None) -> Deferred[T]:
    """Run a coroutine, or wait for another awaitable of asyncio's; fires with its result.

    It may be called before the reactor runs: then the coroutine starts with it. Cancelling the
    Deferred cancels the task, and the Deferred fires when the task has ended; if by the
    cancellation, with Twisted's CancelledError. SystemExit and KeyboardInterrupt are failures like
    any others. Raises NoAsyncioLoop.

    reactor: by default the one that is installed.
    """
    loop = reactor_loop(reactor)
    if loop is None:
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise NoAsyncioLoop("a coroutine", reactor)
    return _TaskDeferred(awaitable, loop)


def as_future(deferred: Deferred[T], reactor: object = None) -> "asyncio.Future[T]":
    """Return a future with the outcome of a Deferred, which it consumes.

    `await deferred` needs none; `asyncio.wait`, `add_done_callback` and libraries that ask for a
    future do. Cancelling the future cancels the Deferred. Raises NoAsyncioLoop.

    reactor: by default the one that is installed.
    """
    loop = reactor_loop(reactor)
    if loop is None:
        raise NoAsyncioLoop("a future", reactor)
    return deferred.asFuture(loop)


class TaskService(Service):
    """Runs a coroutine from the start of the service until it is stopped.

    main: a coroutine function without arguments. It is cancelled when the service stops, which
    waits for it, so that a `finally` can await. What it raises stops the process (`host.fail`);
    when it returns, the service has nothing more to do.
    """

    def __init__(self, host: IHost, main: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.host = host
        self.main = main
        self._running: Deferred[object] = succeed(None)

    @override
    def startService(self) -> None:
        Service.startService(self)
        try:
            running = as_deferred(self.main(), self.host.reactor)
        except NoAsyncioLoop as error:
            self.host.fail(str(error))
        else:
            self._running = running.addErrback(self._failed)

    @override
    def stopService(self) -> Deferred[object]:
        Service.stopService(self)
        self._running.cancel()
        return self._running

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and not self.running:
            return
        if not failure.check(OSError, ValueError):  # which a person can correct
            _log.failure("what a service runs has failed", failure)
        assert failure.value is not None
        self.host.fail(one_line(failure.value))


class _TaskDeferred(Deferred[Any]):
    """Fires with the outcome of a task once the task has ended, however often it is cancelled."""

    def __init__(self, awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._task = loop.create_task(_outcome(awaitable))
        self._task.add_done_callback(self.callback)
        self.addCallback(_result, awaitable)

    @override
    def cancel(self) -> None:
        if self.called:
            super().cancel()  # of a Deferred that the coroutine has returned
        else:
            self._task.cancel()


async def _outcome(awaitable: Awaitable[T]) -> T | Failure:
    """Return the result, or a Failure: if the task raised SystemExit, that would end the loop."""
    try:
        return await awaitable
    except asyncio.CancelledError:
        raise
    except BaseException:
        return Failure()


def _result(task: "asyncio.Task[T | Failure]", awaitable: Awaitable[T]) -> T | Failure:
    try:
        return task.result()
    except asyncio.CancelledError as error:
        if isinstance(awaitable, Coroutine):
            awaitable.close()  # without a warning, if it has not begun
        raise CancelledError from error


# What a task of asyncio's asks of a future that a coroutine yields to it. Each is found on a
# Deferred alone: `asyncio.isfuture` looks at the class, and then expects the rest of a future.


class _YieldedToTask:
    """The mark of a future that a coroutine yields, which a task removes at once."""

    def __get__(self, deferred: "Deferred[Any] | None", owner: type) -> bool:
        if deferred is None:
            raise AttributeError
        return True

    def __set__(self, deferred: "Deferred[Any]", value: object) -> None:
        """Keep it: a task sets it to False, and the next may await the same Deferred."""


class _Done:
    """The result of a future as a task asks for it: the Deferred has what `await` returns."""

    @staticmethod
    def result() -> None:
        """Return None: the task goes on."""


def _get_loop(deferred: "Deferred[Any]") -> asyncio.AbstractEventLoop | None:
    # None is no task's: the task raises RuntimeError ("attached to a different loop").
    return reactor_loop()


def _add_done_callback(
    deferred: "Deferred[Any]",
    callback: Callable[[type[_Done]], object],
    *,
    context: Context | None = None,
) -> None:
    """Have `callback`, by which a task wakes up, called in the turn after the Deferred fires."""
    if context is None:  # asyncio.wait would ask for the rest of a future
        raise TypeError("a Deferred is no future (fix: evserve.aio.as_future(deferred))")
    own = vars(deferred)
    if "cancel" not in own:  # that of the class takes no `msg`
        own["cancel"] = partial(_cancel, ref(deferred))  # a reference would make a cycle
    deferred.addBoth(_wake, asyncio.get_running_loop(), callback, context, deferred)


def _cancel(deferred: "ref[Deferred[Any]]", msg: object = None) -> None:
    """Cancel the Deferred; None lets the task raise asyncio's CancelledError, not Twisted's."""
    awaited = deferred()
    if awaited is not None:
        type(awaited).cancel(awaited)


def _wake(
    result: T,
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[type[_Done]], object],
    context: Context,
    deferred: "Deferred[Any]",
) -> T:
    loop.call_soon(callback, _Done, context=context)
    if isinstance(result, Failure):
        loop.call_soon(_mark_handled, deferred)
    return result


def _mark_handled(deferred: "Deferred[Any]") -> None:
    """Keep Twisted from logging a failure that a cancelled task did not look at."""
    debug_info = deferred._debugInfo  # noqa: SLF001 - `await` would change the traceback
    if debug_info is not None:
        debug_info.failResult = None


for _name, _value in (
    ("_asyncio_future_blocking", _YieldedToTask()),
    ("get_loop", _get_loop),
    ("add_done_callback", _add_done_callback),
):
    setattr(Deferred, _name, _value)
