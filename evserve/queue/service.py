"""The queue as a service: a store, a broker, and the port where beanstalkd's clients connect."""

import gc
import signal
from pathlib import Path
from typing import Final

from attrs import define, field
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError
from typing_extensions import override
from zope.interface import implementer

from evserve.interfaces import IHost, IReadiness
from evserve.options import choice, duration, integer_between, positive_integer
from evserve.queue.broker import Broker
from evserve.queue.core import Core
from evserve.queue.model import MAX_JOB_SIZE, RESIDENT_BYTES, Limits
from evserve.queue.parser import is_tube_name
from evserve.queue.protocol import QueueFactory
from evserve.queue.sqlite import SQLiteStore
from evserve.queue.stats import Metrics, Statistics
from evserve.queue.store import InlineWriter, MemoryStore, Store, StoreError, ThreadWriter, Writer


_log = Logger()

_MEMORY: Final = ":memory:"

_sync = choice("full", "normal")
_job_size = integer_between(1, MAX_JOB_SIZE)


class Options(UsageOptions):
    """What the queue adds to the options that every listening service takes."""

    longdesc = (
        "Speaks the protocol of beanstalkd 1.13, so that every client of beanstalkd can use it, "
        "and some verbs of its own (docs/protocol.md)."
    )
    optFlags = [
        [
            "usr1-drains",
            None,
            "Refuse puts (DRAINING) after SIGUSR1, which reopens no log file then",
        ],
    ]
    optParameters = [
        ["store", None, _MEMORY, "SQLite file for the events; :memory: loses them on exit"],
        ["sync", None, "full", "full: commits survive a power cut; normal: a crash", _sync],
        [
            *("keep", None, 0.0),
            "Time for which the history keeps what was handled, such as 7d or 12h",
            duration,
        ],
        ["max-job-size", "z", 65535, "Largest body accepted, in bytes", _job_size],
        ["max-bytes", None, None, "Limit of all bodies together, in bytes", positive_integer],
        ["max-events", None, None, "Limit of events", positive_integer],
        ["max-tube-events", None, None, "Limit of events in a tube", positive_integer],
    ]

    default_port = 11300  # without --port and --listen
    alone_in_process = ("usr1-drains",)  # the signal is for the log files of other services too

    def __init__(self) -> None:
        UsageOptions.__init__(self)
        self["fanout"] = []

    def opt_fanout(self, text: str) -> None:
        """Copy events put into a tube to others too: clicks=billing,audit. May be repeated."""
        source, equals, targets = text.partition("=")
        names = targets.split(",")
        if not equals or source in names or not all(map(is_tube_name, (source, *names))):
            raise UsageError(
                f"--fanout {text}: not SOURCE=TUBE,... (such as clicks=billing,audit)"
            )
        self["fanout"] += [(source, name) for name in names]

    def limits(self) -> Limits:
        """Return the limits these options set."""
        return Limits(
            max_job_size=self["max-job-size"],
            max_bytes=self["max-bytes"],
            max_events=self["max-events"],
            max_tube_events=self["max-tube-events"],
            resident=None if self["store"] == _MEMORY else RESIDENT_BYTES,
        )


@implementer(IReadiness)
@define(eq=False, repr=False, slots=False)
class QueueService(MultiService):
    """Opens the store when it starts, so that a daemon does so after its fork."""

    options: Options
    host: IHost
    factory: QueueFactory
    broker: Broker | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        MultiService.__init__(self)

    @override
    def startService(self) -> None:
        try:
            self._open()
        except StoreError as error:
            self.host.fail(str(error))
            return
        MultiService.startService(self)

    def _open(self) -> None:
        core = Core(self.options.limits())
        store, writer = self._open_store()
        gc.disable()  # or it would visit a million new events again and again
        try:
            store.load(core)
        except BaseException:  # Ctrl-C too: a large store takes seconds
            writer.stop()
            raise
        finally:
            gc.enable()
        gc.freeze()
        for source, target in self.options["fanout"]:
            core.bind(source, target)
        reactor = self.host.reactor
        statistics = Statistics(core, reactor.seconds())
        self.broker = Broker(core, store, writer, reactor)
        self.broker.keep = self.options["keep"]
        metrics = Metrics(self.broker, statistics)
        self.broker.observe = metrics.observe
        self.host.metrics.register(metrics)
        self.factory.broker, self.factory.statistics = self.broker, statistics

    def _open_store(self) -> tuple[Store, Writer]:
        path = self.options["store"]
        if path == _MEMORY:
            _log.warn("store: :memory: loses its events when this server ends")
            memory = MemoryStore()
            return memory, InlineWriter(memory)
        store = SQLiteStore.open(Path(path), sync=self.options["sync"])
        return store, ThreadWriter(store, self.host.reactor.callFromThread)

    def unready_reason(self) -> str | None:
        return None if self.broker is None else self.broker.problem

    def drain(self) -> None:
        """Refuse puts from now on."""
        if self.broker is not None:
            self.broker.draining = True
            _log.info("draining: no puts are accepted")

    @override
    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await maybeDeferred(MultiService.stopService, self)
        if self.broker is not None:
            broker, self.broker = self.broker, None
            await broker.close()


def makeService(options: Options, host: IHost) -> IService:
    """Return the queue and its port."""
    factory = QueueFactory()
    service = QueueService(options, host, factory)
    if options["usr1-drains"]:  # now, because the signal may come as soon as the port is open
        call_from_thread = host.reactor.callFromThread
        signal.signal(signal.SIGUSR1, lambda *_: call_from_thread(service.drain))
    host.listen(options, factory).setServiceParent(service)
    return service
