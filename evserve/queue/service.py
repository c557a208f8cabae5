"""The queue as a service: a store, a broker, and the port where beanstalkd's clients connect."""

import gc
import signal
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from attrs import define, field
from prometheus_client import Gauge
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError
from typing_extensions import override
from zope.interface import implementer

from evserve.interfaces import IHost, IReadiness, IStopsLast
from evserve.options import choice, duration, integer_between, positive_integer
from evserve.queue.broker import Broker
from evserve.queue.core import Core
from evserve.queue.model import MAX_JOB_SIZE, RESIDENT_BYTES, Limits
from evserve.queue.parser import is_tube_name
from evserve.queue.protocol import QueueFactory
from evserve.queue.sqlite import SQLiteStore
from evserve.queue.stats import Metrics, Statistics
from evserve.queue.store import InlineWriter, MemoryStore, Store, StoreError, ThreadWriter, Writer


if TYPE_CHECKING:
    from evserve.queue.postgres import Candidate

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
        [
            *("store", None, _MEMORY),
            "SQLite file for the events, or postgresql://...; :memory: loses them on exit",
        ],
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


@implementer(IReadiness, IStopsLast)
@define(eq=False, repr=False, slots=False)
class QueueService(MultiService):
    """Opens the store when it starts, so that a daemon does so after its fork."""

    options: Options
    host: IHost
    factory: QueueFactory
    broker: Broker | None = field(default=None, init=False)
    _metrics: Metrics | None = field(default=None, init=False)
    _draining: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        MultiService.__init__(self)

    @override
    def startService(self) -> None:
        try:
            core = Core(self.options.limits())
            store, writer = self._open_store()
            try:
                load(store, core)
            except BaseException:  # Ctrl-C too: a large store takes seconds
                writer.stop()
                raise
        except StoreError as error:
            self.host.fail(str(error))
            return
        self.serve(core, store, writer)
        MultiService.startService(self)

    def serve(self, core: Core, store: Store, writer: Writer) -> Broker:
        """Make the broker that the connections of the port talk to."""
        for source, target in self.options["fanout"]:
            core.bind(source, target)
        reactor = self.host.reactor
        statistics = Statistics(core, reactor.seconds())
        self.broker = broker = Broker(core, store, writer, reactor)
        broker.keep = self.options["keep"]
        broker.draining = self._draining
        self._metrics = Metrics(broker, statistics)
        broker.observe = self._metrics.observe
        self.host.metrics.register(self._metrics)
        self.factory.broker, self.factory.statistics = broker, statistics
        return broker

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
        self._draining = True
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


@define(eq=False, repr=False, slots=False)
class StandByService(QueueService):
    """A server on Postgres: stands by, listens while it is active, and may do both many times.

    Without a port, the clients of a server that stands by are refused at once, and try another.
    """

    candidate: "Candidate"
    _active: Gauge = field(init=False)
    _is_serving: bool = field(default=False, init=False)  # until its port is closed again

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._active = Gauge(
            "evserve_queue_active",
            "Whether this server is the active one of its database, and does not stand by.",
            registry=self.host.metrics,
        )

    @override
    def privilegedStartService(self) -> None:
        Service.privilegedStartService(self)

    @override
    def startService(self) -> None:
        Service.startService(self)
        self._stand_by(None)

    def _stand_by(self, writer: Writer | None) -> None:
        # Not in the reactor's thread pool, because a process waits for those threads at its end.
        Thread(
            target=self._take_over, args=(writer,), name="evserve-stand-by", daemon=True
        ).start()

    def _take_over(self, writer: Writer | None) -> None:
        """Close the store of the time before, then wait until this is the active server."""
        call = self.host.reactor.callFromThread
        try:
            if writer is not None:
                writer.stop()
            taken = self.candidate.take_over(load)
        except StoreError as error:
            call(self.host.fail, str(error))
        except Exception:
            _log.failure("store: unexpected error while opening it")
            call(self.host.fail, "cannot open the store")
        else:
            if taken is not None:
                call(self._become_active, *taken)

    def _become_active(self, core: Core, store: Store) -> None:
        if not self.running:
            store.close()
            return
        writer = ThreadWriter(store, self.host.reactor.callFromThread)
        broker = self.serve(core, store, writer)
        broker.on_broken = self._give_up
        broker.pump()  # for the heartbeats: there may be no client for long
        self._active.set(1)
        self._is_serving = True
        _log.info("store: this server is active, with {count} events", count=len(core.events))
        for child in self:
            child.privilegedStartService()
            child.startService()

    def _give_up(self) -> None:
        """Drop the clients: the session is lost, and another server may be active already."""
        Deferred.fromCoroutine(self._close_port()).addErrback(
            lambda failure: _log.failure("store: failed to close the port", failure)
        )

    async def _close_port(self) -> None:
        broker, self.broker = self.broker, None
        if broker is None:
            return  # this server is being stopped
        assert self._metrics is not None
        self.host.metrics.unregister(self._metrics)
        self._active.set(0)
        broker.abandon()
        for child in self:
            await maybeDeferred(child.stopService)
        self._is_serving = False
        gc.unfreeze()  # the events of that time are garbage
        if self.running:
            self._stand_by(broker.writer)

    @override
    def unready_reason(self) -> str | None:
        return self.candidate.reason if self.broker is None else self.broker.problem

    @override
    async def _stop(self) -> None:
        self.candidate.stop()
        self._active.set(0)
        if self._is_serving:
            await super()._stop()
        else:
            Service.stopService(self)


def load(store: Store, core: Core) -> None:
    """Fill `core` from `store`; raises StoreError."""
    gc.disable()  # or it would visit a million new events again and again
    try:
        store.load(core)
    finally:
        gc.enable()
    gc.freeze()


def makeService(options: Options, host: IHost) -> IService:
    """Return the queue and its port; raises UsageError."""
    factory = QueueFactory()
    if options["store"].startswith(("postgresql://", "postgres://")):
        service: QueueService = _on_postgres(options, host, factory)
    else:
        service = QueueService(options, host, factory)
    if options["usr1-drains"]:  # now, because the signal may come as soon as the port is open
        call_from_thread = host.reactor.callFromThread
        signal.signal(signal.SIGUSR1, lambda *_: call_from_thread(service.drain))
    host.listen(options, factory).setServiceParent(service)
    return service


def _on_postgres(options: Options, host: IHost, factory: QueueFactory) -> StandByService:
    try:
        from evserve.queue.postgres import Address, Candidate
    except ImportError as error:
        raise UsageError(
            f"--store: Postgres needs psycopg, which cannot be imported: {error} "
            "(pip install 'evserve[postgres]')"
        ) from error
    if options["sync"] != "full":
        raise UsageError(
            "--sync: for Postgres, synchronous_commit of the role or database says it"
        )
    if any("systemd:" in each for each in options.get("listen", [])):
        raise UsageError(
            "--listen: clients would wait in a socket of systemd's while this server stands by"
        )
    try:
        candidate = Candidate(Address.parse(options["store"]), options.limits())
    except StoreError as error:
        raise UsageError(str(error)) from None
    return StandByService(options, host, factory, candidate)
