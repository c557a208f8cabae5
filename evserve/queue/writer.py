"""The writer thread: the one place that waits for the disk."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from evserve.queue.journal import Batch, Outcome, Written
from evserve.queue.store import Done, Store


_log = Logger()


@define(eq=False, repr=False)
class ThreadWriter:
    """See Writer. `call` runs a function in the reactor's thread: `reactor.callFromThread`."""

    store: Store
    call: Callable[..., Any]
    _jobs: "SimpleQueue[tuple[Batch, Done] | None]" = field(factory=SimpleQueue, init=False)
    _thread: Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = Thread(target=self._run, name="evserve-queue-writer", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch, done: Done) -> None:
        """See Writer."""
        self._jobs.put((batch, done))

    def stop(self) -> None:
        """See Writer."""
        self._jobs.put(None)
        self._thread.join()
        self.store.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, done = job
            self.call(done, batch, self._write(batch))
            self._tidy()

    def _write(self, batch: Batch) -> Written:
        try:
            return self.store.write(batch)
        except Exception:
            # The thread must live on to say so, or clients wait for ever.
            _log.failure("the store failed in a way it does not know")
            return Written(Outcome.BROKEN, Outcome.BROKEN)

    def _tidy(self) -> None:
        try:
            self.store.tidy()
        except Exception:
            _log.failure("the store could not be tidied")
