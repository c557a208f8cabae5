"""The service: options, start, stop, signals, metrics, over a host in memory."""

import os
import signal
import time
from pathlib import Path
from queue import SimpleQueue

from attrs import Factory, define, field
from prometheus_client import CollectorRegistry, generate_latest
from twisted.application.service import MultiService, Service
from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from evserve.interfaces import IHost
from evserve.plugin import discover
from evserve.queue import service, stats
from evserve.queue.core import Core
from evserve.queue.store import MemoryStore, Outcome, WriteResult
from tests.queue.memory_server import Transport


class Reactor(MemoryReactorClock):
    """Runs calls from threads in `run_until`, which waits for the writer thread."""

    def __init__(self):
        super().__init__()
        self.from_threads = []

    def callFromThread(self, call, *args):
        self.from_threads.append((call, args))

    def run_until(self, done):
        deadline = time.monotonic() + 120
        while not done():
            assert time.monotonic() < deadline
            while self.from_threads:
                call, args = self.from_threads.pop(0)
                call(*args)
            self.advance(0)


@implementer(IHost)
@define(eq=False)
class Host:
    reactor: Reactor = Factory(Reactor)
    metrics: CollectorRegistry = Factory(CollectorRegistry)
    reasons: list[str] = Factory(list)
    factory: object = field(default=None, init=False)

    def listen(self, options, factory):
        self.factory = factory
        return Service()

    def fail(self, reason):
        self.reasons.append(reason)

    def finish(self, status=0):
        raise NotImplementedError


class ServiceTests(SynchronousTestCase):
    def setUp(self):
        self.host = Host()
        self.path = Path(self.mktemp())
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))

    def start(self, *arguments):
        options = service.Options()
        options.parseOptions(arguments)
        root = MultiService()
        queue = service.makeService(options, self.host)
        queue.setServiceParent(root)
        root.startService()
        self.addCleanup(self.stop, root, self.host.reactor)
        return queue

    def stop(self, root, reactor):
        if root.running:
            stopping = root.stopService()
            reactor.run_until(lambda: stopping.called)
            self.successResultOf(stopping)

    def connect(self):
        protocol = self.host.factory.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, connection, data):
        protocol, transport = connection
        protocol.dataReceived(data)
        self.host.reactor.run_until(transport.value)
        return transport.take()

    def test_an_event_survives_the_service(self):
        queue = self.start("--store", str(self.path))
        connection = self.connect()
        self.assertEqual(self.ask(connection, b"put 0 0 1 1\r\nx\r\n"), b"INSERTED 1\r\n")
        connection[0].connectionLost()
        self.stop(queue.parent, self.host.reactor)
        self.host = Host()
        self.start("--store", str(self.path))
        self.assertEqual(self.ask(self.connect(), b"reserve\r\n"), b"RESERVED 1 1\r\nx\r\n")

    def test_a_store_that_cannot_be_opened_fails_with_one_line(self):
        self.path.mkdir()
        queue = self.start("--store", str(self.path))
        self.assertEqual(self.host.reasons, [f"cannot open store {self.path}: it is a directory"])
        self.assertFalse(queue.running)

    def test_a_store_that_cannot_be_read_is_closed(self):
        self.patch(service.SQLiteStore, "load", _unreadable)
        self.start("--store", str(self.path))
        self.assertEqual(self.host.reasons, ["cannot read it"])
        self.host = Host()
        self.start("--store", str(self.path))
        self.assertEqual(self.host.reasons, ["cannot read it"])

    def test_a_store_whose_loading_is_interrupted_is_closed(self):
        self.patch(service.SQLiteStore, "load", _interrupted)
        for _ in range(2):
            self.host = Host()
            self.assertRaises(KeyboardInterrupt, self.start, "--store", str(self.path))

    def test_what_does_not_go_with_postgres_is_refused(self):
        for arguments, problem in (
            (["--sync", "normal"], "--sync"),
            ([], "not valid"),
        ):
            options = service.Options()
            options.parseOptions(["--store", "postgresql://me:se@cret@db/queue", *arguments])
            error = self.assertRaises(UsageError, service.makeService, options, self.host)
            self.assertIn(problem, str(error))
            self.assertNotIn("cret", str(error))
        options["store"], options["listen"] = "postgresql://db/queue", ["systemd:domain=INET"]
        error = self.assertRaises(UsageError, service.makeService, options, self.host)
        self.assertIn("--listen", str(error))

    def test_sigusr1_drains_if_it_was_asked_to(self):
        self.start("--usr1-drains")
        os.kill(os.getpid(), signal.SIGUSR1)
        self.host.reactor.run_until(lambda: self.host.factory.broker.draining)
        self.assertEqual(self.ask(self.connect(), b"put 0 0 1 1\r\nx\r\n"), b"DRAINING\r\n")

    def test_sigusr1_is_the_hosts_without_that_option(self):
        before = signal.getsignal(signal.SIGUSR1)
        self.start()
        self.assertEqual(signal.getsignal(signal.SIGUSR1), before)

    def test_keep(self):
        self.start("--keep", "7d")
        connection = self.connect()
        self.ask(connection, b"put 0 0 1 1\r\nx\r\n")
        self.ask(connection, b"reserve\r\n")
        self.assertEqual(self.ask(connection, b"delete 1\r\n"), b"DELETED\r\n")
        reply = self.ask(connection, b"history 9\r\n")
        self.assertIn(b'"id": 1, ', reply)
        self.assertNotIn(b"expires", reply)

    def test_fanout(self):
        self.start("--fanout", "clicks=billing,audit")
        connection = self.connect()
        self.ask(connection, b"use clicks\r\n")
        self.ask(connection, b"put 0 0 1 1\r\nx\r\n")
        reply = self.ask(connection, b"list-tubes\r\n")
        self.assertIn(b"- billing\n- audit\n", reply)

    def test_metrics(self):
        self.start()
        connection = self.connect()
        self.ask(connection, b"put 0 0 1 1\r\nx\r\n" * 2)
        self.ask(connection, b"reserve\r\n")
        self.ask(connection, b"delete 1\r\n")
        self.host.reactor.advance(5)
        text = generate_latest(self.host.metrics).decode()
        for line in (
            'evserve_queue_events{state="ready",tube="default"} 1.0',
            'evserve_queue_puts_total{tube="default"} 2.0',
            'evserve_queue_deletes_total{tube="default"} 1.0',
            'evserve_queue_oldest_seconds{tube="default"} 5.0',
            "evserve_queue_commit_rows_count 2.0",
            "evserve_queue_store_up 1.0",
            "evserve_queue_store_full 0.0",
            "evserve_queue_damaged_total 0.0",
            "evserve_queue_commit_seconds_count 2.0",
        ):
            self.assertIn(line, text)

    def test_a_store_that_takes_nothing_is_not_ready(self):
        queue = self.start()
        self.assertIsNone(queue.unready_reason())
        queue.broker.problem = "store: waiting: database is locked"
        self.assertEqual(queue.unready_reason(), "store: waiting: database is locked")
        text = generate_latest(self.host.metrics).decode()
        self.assertIn("evserve_queue_store_up 0.0", text)

    def metrics(self):
        return generate_latest(self.host.metrics).decode()

    def test_metrics_show_the_largest_tubes_and_the_totals_of_all(self):
        self.start()
        connection = self.connect()
        for number in range(stats.MOST_TUBES):
            self.ask(connection, b"use t%d\r\n" % number)
            self.ask(connection, b"put 0 0 1 1\r\nx\r\n" * 2)
        self.ask(connection, b"use small\r\n")
        self.ask(connection, b"put 0 0 1 1\r\nx\r\n")
        text = self.metrics()
        self.assertNotIn('tube="small"', text)
        self.assertEqual(text.count("evserve_queue_oldest_seconds{"), stats.MOST_TUBES)
        self.assertIn(f"evserve_queue_tubes {stats.MOST_TUBES + 2}.0", text)  # and default
        total = 2.0 * stats.MOST_TUBES + 1
        self.assertIn(f'evserve_queue_all_events{{state="ready"}} {total}', text)

    def test_very_many_tubes_are_counted_after_the_reply(self):
        self.patch(stats, "_TUBES_AT_ONCE", 2)
        self.start()
        connection = self.connect()
        for number in range(5):
            self.ask(connection, b"use t%d\r\n" % number)
            self.ask(connection, b"put 0 0 1 1\r\nx\r\n")
        self.assertNotIn("tube=", self.metrics())
        self.host.reactor.run_until(lambda: 'tube="t4"' in self.metrics())
        self.assertIn('evserve_queue_all_events{state="ready"} 5.0', self.metrics())

    def test_metrics_of_an_empty_tube(self):
        self.start()
        text = generate_latest(self.host.metrics).decode()
        self.assertIn('evserve_queue_oldest_seconds{tube="default"} 0.0', text)


class HeldCandidate:
    """Becomes the active server when a test says so, with the store that it gives."""

    reason = "standing by: another server is active"

    def __init__(self):
        self.stores = SimpleQueue()

    def take_over(self, load):
        store = self.stores.get()
        if store is None:
            return None
        core = Core()
        load(store, core)
        return core, store

    def stop(self):
        self.stores.put(None)


class LostStore(MemoryStore):
    def write(self, batch):
        return WriteResult(Outcome.BROKEN, Outcome.BROKEN, cause="no session")


class StandByTests(SynchronousTestCase):
    def setUp(self):
        self.host, self.candidate = Host(), HeldCandidate()
        options = service.Options()
        options.parseOptions([])
        factory = service.QueueFactory()
        self.service = service.StandByService(options, self.host, factory, self.candidate)
        self.port = self.host.listen(options, factory)
        self.port.setServiceParent(self.service)
        self.service.privilegedStartService()
        self.service.startService()
        self.addCleanup(self.candidate.stop)

    def become_active(self, store):
        self.candidate.stores.put(store)
        self.host.reactor.run_until(lambda: self.port.running)

    def is_active(self):
        text = generate_latest(self.host.metrics).decode()
        return "evserve_queue_active 1.0" in text

    def test_it_has_no_port_and_is_not_ready(self):
        self.assertFalse(self.port.running)
        self.assertEqual(self.service.unready_reason(), self.candidate.reason)
        self.assertFalse(self.is_active())
        self.successResultOf(self.service.stopService())
        self.assertFalse(self.service.running)

    def test_it_listens_when_it_is_active(self):
        self.become_active(MemoryStore())
        self.assertIsNone(self.service.unready_reason())
        self.assertTrue(self.is_active())
        self.successResultOf(self.service.stopService())
        self.assertFalse(self.port.running)

    def test_it_drops_its_clients_and_stands_by_again_when_its_store_is_lost(self):
        self.become_active(LostStore(durable=True))
        protocol, transport = self.host.factory.buildProtocol(None), Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"put 0 0 1 1\r\nx\r\n")
        self.host.reactor.run_until(lambda: not self.port.running)
        self.assertEqual(transport.take(), b"INTERNAL_ERROR\r\n")
        self.assertTrue(transport.disconnected)
        protocol.connectionLost()
        self.assertFalse(self.is_active())
        self.assertEqual(self.service.unready_reason(), self.candidate.reason)
        self.become_active(MemoryStore())
        self.assertTrue(self.is_active())
        self.assertIn("evserve_queue_store_up 1.0", generate_latest(self.host.metrics).decode())

    def test_it_can_be_stopped_while_its_store_is_lost(self):
        self.become_active(LostStore(durable=True))
        protocol, transport = self.host.factory.buildProtocol(None), Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"put 0 0 1 1\r\nx\r\n")
        protocol.connectionLost()
        stopped = []
        self.service.stopService().addCallback(stopped.append)
        self.host.reactor.run_until(lambda: stopped)


def _unreadable(store, core):
    raise service.StoreError("cannot read it")


def _interrupted(store, core):
    raise KeyboardInterrupt


class OptionsTests(SynchronousTestCase):
    def test_limits(self):
        options = service.Options()
        options.parseOptions(
            ["-z", "9", "--max-bytes", "8", "--max-events=7", "--max-tube-events=6"]
        )
        limits = options.limits()
        self.assertEqual(
            (limits.max_job_size, limits.max_bytes, limits.max_events, limits.max_tube_events),
            (9, 8, 7, 6),
        )

    def test_mistakes(self):
        for arguments in (
            ["--sync", "never"],
            ["--max-bytes", "0"],
            ["--max-events", "-1"],
            ["--max-job-size", "1e3"],
            ["--max-job-size", str(2**30)],
            ["--fanout", "clicks"],
            ["--fanout", "clicks=clicks"],
            ["--fanout", "a=b,"],
            ["--fanout", "a=-b"],
        ):
            self.assertRaises(UsageError, service.Options().parseOptions, arguments)

    def test_the_plugin_is_found(self):
        self.assertEqual(discover().find("queue").module, "evserve.queue.service")
