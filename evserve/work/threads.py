"""Threads for blocking handlers, apart from the reactor's own, which look up names.

They are daemons: a handler that never returns must not keep the process from ending.
"""

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool


T = TypeVar("T")


class _DaemonThread(Thread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, daemon=True, **kwargs)


class _DaemonPool(ThreadPool):
    threadFactory = _DaemonThread


@define(eq=False)
class HandlerThreads:
    """A pool of up to `size` threads, started when first needed."""

    reactor: Any
    size: int
    _pool: ThreadPool | None = field(init=False, default=None)
    _busy: int = field(init=False, default=0)

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        """Call `function` in a thread; the Deferred fires when it really returned or raised."""
        if self._pool is None:
            self._pool = _DaemonPool(minthreads=0, maxthreads=self.size, name="handlers")
            self._pool.start()
        result: Deferred[T] = Deferred()
        self._busy += 1

        def returned(success: bool, outcome: T | Failure) -> None:
            self.reactor.callFromThread(self._returned, result, outcome)

        self._pool.callInThreadWithCallback(returned, function)
        return result

    def _returned(self, result: Deferred[T], outcome: T | Failure) -> None:
        self._busy -= 1
        result.callback(outcome)

    def stop(self) -> None:
        """Let the threads go; one that is still busy would be waited for, so it is left alone."""
        if self._pool is not None and not self._busy:
            self._pool.stop()
