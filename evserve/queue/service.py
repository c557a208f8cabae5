"""The queue as a service: a store, an engine, and the port where beanstalkd's clients connect."""

import gc
import signal
from pathlib import Path
from types import FrameType
from typing import Final

from attrs import define, field
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from evserve.interfaces import IHost
from evserve.queue.core import Book, Core
from evserve.queue.engine import Engine
from evserve.queue.model import Limits
from evserve.queue.parser import is_tube_name
from evserve.queue.protocol import QueueFactory
from evserve.queue.sqlite import SQLiteStore
from evserve.queue.stats import Metrics, Statistics
from evserve.queue.store import InlineWriter, MemoryStore, Store, StoreError, ThreadWriter, Writer


MEMORY: Final = ":memory:"
# SQLite's own limit on a row is 10**9 bytes.
MOST_JOB_SIZE: Final = 512 * 1024 * 1024
# So many bytes of bodies stay in memory beside the store, to be served without reading it.
RESIDENT: Final = 64 * 1024 * 1024


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise ValueError("not a whole number above 0")
    return value


def _job_size(text: str) -> int:
    value = _count(text)
    if value > MOST_JOB_SIZE:
        raise ValueError(f"more than {MOST_JOB_SIZE} bytes")
    return value


def _sync(text: str) -> str:
    if text not in ("full", "normal"):
        raise ValueError("not a way to sync (full or normal)")
    return text


class Options(UsageOptions):
    """What the queue adds to the options that every listening service takes."""

    longdesc = (
        "Speaks the protocol of beanstalkd 1.13, so that every client of beanstalkd can use it, "
        "and some verbs of its own (docs/protocol.md). SIGUSR1 makes it refuse puts (DRAINING)."
    )
    optParameters = [
        ["store", None, MEMORY, "SQLite file that keeps the events; :memory: keeps nothing"],
        ["sync", None, "full", "full: survives a power cut; normal: the process's end", _sync],
        ["max-job-size", "z", 65535, "Largest body accepted, in bytes", _job_size],
        ["max-bytes", None, None, "Refuse puts beyond so many bytes of bodies", _count],
        ["max-events", None, None, "Refuse puts beyond so many events", _count],
        ["max-tube-events", None, None, "Refuse puts beyond so many events in a tube", _count],
    ]

    default_port = 11300  # when neither --port nor --listen says where

    def __init__(self) -> None:
        UsageOptions.__init__(self)
        self["fanout"] = []

    def opt_fanout(self, text: str) -> None:
        """Copy what is put into a tube into others too: clicks=billing,audit. May be repeated."""
        source, equals, targets = text.partition("=")
        names = targets.split(",")
        if not equals or source in names or not all(map(is_tube_name, (source, *names))):
            raise UsageError(f"--fanout {text}: write it like clicks=billing,audit")
        self["fanout"] += [(source, name) for name in names]

    def limits(self) -> Limits:
        """Return the limits these options set."""
        return Limits(
            max_job_size=self["max-job-size"],
            max_bytes=self["max-bytes"],
            max_events=self["max-events"],
            max_tube_events=self["max-tube-events"],
            resident=None if self["store"] == MEMORY else RESIDENT,
        )


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
