"""The queue as a service: a store, an engine, and the port where beanstalkd's clients connect."""

import gc
import signal
from pathlib import Path
from types import FrameType

from attrs import define, field
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from evserve.interfaces import IHost
from evserve.queue.book import Book
from evserve.queue.core import Core
from evserve.queue.engine import Engine
from evserve.queue.metrics import Metrics
from evserve.queue.options import MEMORY, Options
from evserve.queue.protocol import QueueFactory
from evserve.queue.sqlite import SQLiteStore
from evserve.queue.statistics import Statistics
from evserve.queue.store import InlineWriter, MemoryStore, Store, StoreError, Writer
from evserve.queue.writer import ThreadWriter


__all__ = ["Options", "QueueService", "makeService"]

_log = Logger()


@define(eq=False, repr=False, slots=False)
class QueueService(MultiService):
    """Opens the store when it starts, so that a daemon does so after its fork."""

    options: Options
    host: IHost
    factory: QueueFactory
    engine: Engine | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        MultiService.__init__(self)

    def startService(self) -> None:
        """See IService."""
        try:
            self._open()
        except StoreError as error:
            self.host.fail(str(error))
            return
        MultiService.startService(self)
        self.host.reactor.callWhenRunning(self._watch_signal)

    def _open(self) -> None:
        book = Book(self.options.limits())
        store, writer = self._store()
        gc.disable()  # a million new events would be looked at again and again
        try:
            store.load(book)
        except BaseException:  # Ctrl-C, too, for whoever has a large store
            writer.stop()
            raise
        finally:
            gc.enable()
        gc.freeze()
        for source, target in self.options["fanout"]:
            book.bind(source, target)
        reactor = self.host.reactor
        statistics = Statistics(book, reactor.seconds())
        metrics = Metrics(book, statistics, reactor)
        self.host.metrics.register(metrics)
        self.engine = Engine(Core(book), store, writer, reactor, metrics.observe)
        self.factory.engine, self.factory.statistics = self.engine, statistics

    def _store(self) -> tuple[Store, Writer]:
        path = self.options["store"]
        if path == MEMORY:
            _log.warn("the store is :memory:, nothing survives the end of this server")
            memory = MemoryStore()
            return memory, InlineWriter(memory)
        store = SQLiteStore.open(Path(path), sync=self.options["sync"])
        return store, ThreadWriter(store, self.host.reactor.callFromThread)

    def _watch_signal(self) -> None:
        """Drain on SIGUSR1, as beanstalkd does."""

        def drain(_number: int, _frame: FrameType | None) -> None:
            self.host.reactor.callFromThread(self.drain)

        signal.signal(signal.SIGUSR1, drain)

    def drain(self) -> None:
        """Refuse puts from now on."""
        assert self.engine is not None
        self.engine.draining = True
        _log.info("draining: no puts are accepted")

    def stopService(self) -> Deferred[None]:
        """See IService; fires when what was put is stored."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await maybeDeferred(MultiService.stopService, self)
        if self.engine is not None:
            engine, self.engine = self.engine, None
            await engine.close()


def makeService(options: Options, host: IHost) -> IService:
    """Return the queue and its port."""
    factory = QueueFactory()
    service = QueueService(options, host, factory)
    host.listen(options, factory).setServiceParent(service)
    return service
