"""The broker and the writer thread go on when a client or the store's maintenance fails."""

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from evserve.queue.model import Limits
from evserve.queue.store import (
    Batch,
    DamagedEventError,
    MemoryStore,
    Outcome,
    ThreadWriter,
    WriteResult,
)
from tests.queue.memory_server import HeldWriter, MemoryServer


@define(eq=False)
class Receiver:
    error: Exception | None = None
    heard: list = field(factory=list)
    aborted: bool = False

    def answer(self, answer):
        self._hear("answer")

    def resume(self):
        self._hear("resume")

    def abort(self):
        self.aborted = True

    def _hear(self, what):
        self.heard.append(what)
        if self.error is not None:
            raise self.error


def _no_memory(data):
    raise MemoryError


class PumpTests(SynchronousTestCase):
    def test_a_receiver_that_raises_does_not_affect_others(self):
        broker, bad, good = MemoryServer().broker, Receiver(MemoryError()), Receiver()
        clients = [broker.connect(receiver) for receiver in (bad, good)]
        for client in clients:
            self.assertIsNone(broker.core.reserve(client, broker.now()))
            broker.core.end_wait(client)
        for _ in range(2):
            broker.wake(bad)
            broker.wake(good)
            broker.pump()
        self.assertEqual(bad.heard, ["answer", "resume", "resume"])
        self.assertEqual(good.heard, ["answer", "resume", "resume"])
        self.assertEqual((bad.aborted, good.aborted), (True, False))
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 3)

    def test_no_reply_follows_a_lost_one(self):
        """The client would take it for the lost one: a refused put for a stored one."""
        server = MemoryServer()
        client, other = server.connect(), server.connect()
        client.put()
        client.ask(b"reserve\r\n")
        session = client.protocol.session
        real, session.send = session.send, _no_memory
        server.broker.wake(session)
        session._out.append(b"OUT_OF_MEMORY\r\n")
        server.broker.pump()
        session.send = real
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        self.assertTrue(client.transport.disconnected)
        self.assertEqual(client.ask(b"put 0 0 1 0\r\n\r\n"), b"")
        client.lose()
        self.assertTrue(other.ask(b"reserve\r\n").startswith(b"RESERVED 1 "))


WAITING = WriteResult(Outcome.BUSY, Outcome.BUSY, cause="q.db: database is locked")
PUT = b"put 0 0 60 0\r\n\r\n"


class BusyTests(SynchronousTestCase):
    """A store that another program has locked: nothing was written, so it is tried again."""

    def setUp(self):
        self.writer = HeldWriter()
        self.server = MemoryServer(writer=self.writer)
        self.broker = self.server.broker
        self.client = self.server.connect()
        self.client.ask(PUT)

    def test_it_is_tried_again_until_it_is_written(self):
        for _ in range(3):
            self.writer.finish(WAITING)
            self.assertIn("database is locked", self.broker.problem)
            self.assertEqual(self.client.ask(PUT), b"")
            self.server.clock.advance(1)
        self.writer.finish()
        self.assertEqual(self.client.transport.take(), b"INSERTED 1\r\n")
        self.assertIsNone(self.broker.problem)
        self.assertEqual(self.writer.finish().rows, 3)

    def test_clients_do_not_wait_forever(self):
        self.writer.finish(WAITING)
        self.server.clock.advance(11)
        self.writer.finish(WAITING)
        self.assertEqual(self.client.transport.take(), b"OUT_OF_MEMORY\r\n")
        self.client.ask(PUT)
        self.assertIsNotNone(self.broker.problem)
        self.writer.finish()
        self.assertEqual(self.client.transport.take(), b"INSERTED 2\r\n")

    def test_a_lock_that_ends_is_noticed_without_commands(self):
        """A server that is not ready may get none."""
        self.writer.finish(WAITING)
        self.server.clock.advance(11)
        self.writer.finish(WAITING)
        for _ in range(2):
            self.server.clock.advance(1)
            self.assertEqual(self.writer.finish(WAITING).rows, 0)
            self.assertIn("database is locked", self.broker.problem)
        self.server.clock.advance(1)
        self.writer.finish()
        self.assertIsNone(self.broker.problem)
        self.server.clock.advance(5)
        self.assertEqual(self.writer.batches, [])

    def test_a_new_lock_is_waited_for_after_a_damaged_page(self):
        self.writer.finish(WriteResult(Outcome.DAMAGED, Outcome.DAMAGED, cause="malformed"))
        self.client.transport.take()
        self.client.ask(PUT)
        self.writer.finish(WAITING)
        self.server.clock.advance(1)
        self.writer.finish()
        self.assertEqual(self.client.transport.take(), b"INSERTED 2\r\n")

    def test_it_is_not_tried_again_by_a_server_that_stops(self):
        self.writer.finish(WAITING)
        self.server.clock.advance(11)
        self.writer.finish(WAITING)
        self.client.lose()
        self.successResultOf(self.broker.close())
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_it_does_not_keep_the_server_from_stopping(self):
        self.client.lose()
        closing = self.broker.close()
        self.writer.finish(WAITING)
        self.server.turn()
        self.successResultOf(closing)
        self.assertTrue(self.writer.stopped)

    def test_a_store_that_has_failed_stays_so(self):
        self.writer.finish(WriteResult(Outcome.BROKEN, Outcome.BROKEN, cause="disk I/O error"))
        self.assertEqual(self.client.transport.take(), b"INTERNAL_ERROR\r\n")
        self.client.ask(PUT)
        self.assertIn("disk I/O error", self.broker.problem)


class HeartbeatTests(SynchronousTestCase):
    def setUp(self):
        self.writer = HeldWriter()
        store = MemoryStore(durable=True, heartbeat=1.0)
        self.server = MemoryServer(writer=self.writer, store=store)
        self.broker = self.server.broker
        self.broken = []
        self.broker.on_broken = lambda: self.broken.append(self.client.transport.take())
        self.client = self.server.connect()
        self.broker.pump()

    def test_a_store_with_nothing_to_write_is_asked_whether_it_is_there(self):
        for _ in range(2):
            self.assertEqual(self.writer.batches, [])
            self.server.clock.advance(1)
            self.assertEqual(self.writer.finish().rows, 0)

    def test_a_store_that_is_lost_is_told_of_when_its_clients_are_answered(self):
        self.client.ask(PUT)
        self.writer.finish(WriteResult(Outcome.BROKEN, Outcome.BROKEN, cause="no session"))
        self.assertEqual(self.broken, [b"INTERNAL_ERROR\r\n"])
        self.assertEqual(self.broker.problem, "store: failed: no session")

    def test_an_abandoned_store_is_not_written_to_and_has_no_clients(self):
        self.client.ask(PUT)
        self.writer.finish()
        self.client.ask(b"reserve\r\n")
        self.server.clock.advance(1)
        self.writer.finish(WriteResult(Outcome.BROKEN, Outcome.BROKEN))
        self.broker.abandon()
        self.assertTrue(self.client.transport.disconnected)
        self.client.lose()
        self.server.clock.advance(10)
        self.assertEqual(self.writer.batches, [])
        self.assertFalse(self.writer.stopped)


class Unreadable(MemoryStore):
    def body(self, event_id):
        raise DamagedEventError(f"event {event_id} is lost")


class DivisionTests(SynchronousTestCase):
    def test_what_is_too_much_for_a_full_disk_is_written_in_parts(self):
        writer = HeldWriter()
        server = MemoryServer(writer=writer)
        client = server.connect()
        client.ask(PUT * 4)
        writer.finish()
        client.transport.take()
        client.ask(b"".join(b"delete %d\r\n" % each for each in (1, 2, 3, 4)) + b"use a\r\n")
        full = WriteResult(Outcome.FULL, Outcome.FULL)
        self.assertEqual(writer.finish(full).deletes, [1, 2, 3, 4])
        self.assertEqual(writer.finish().deletes, [1, 2])
        self.assertEqual(writer.finish(full).deletes, [3, 4])
        self.assertEqual(writer.finish().deletes, [3])
        self.assertEqual(writer.finish(full).deletes, [4])
        server.turn()
        replies = b"DELETED\r\n" * 3 + b"OUT_OF_MEMORY\r\nUSING a\r\n"
        self.assertEqual(client.transport.take(), replies)

    def test_a_damaged_page_refuses_the_one_change_that_needs_it(self):
        writer = HeldWriter()
        server = MemoryServer(writer=writer)
        client = server.connect()
        client.ask(PUT * 2)
        writer.finish()
        client.transport.take()
        client.ask(b"delete 1\r\ndelete 2\r\n")
        damaged = WriteResult(Outcome.DAMAGED, Outcome.DAMAGED, cause="q.db: malformed")
        self.assertEqual(writer.finish(damaged).deletes, [1, 2])
        self.assertEqual(writer.finish(damaged).deletes, [1])
        self.assertIn("malformed", server.broker.problem)
        self.assertEqual(writer.finish().deletes, [2])
        server.turn()
        self.assertEqual(client.transport.take(), b"INTERNAL_ERROR\r\nDELETED\r\n")
        self.assertIsNone(server.broker.problem)

    def test_counters_of_a_damaged_event_refuse_no_other_change(self):
        writer = HeldWriter()
        store = MemoryStore(durable=True)
        server = MemoryServer(writer=writer, store=store)
        client = server.connect()
        client.ask(PUT)
        writer.finish()
        client.ask(b"reserve\r\n")
        client.transport.take()
        server.broker._counters_due = 0
        client.ask(PUT)
        batch = writer.finish(WriteResult(Outcome.DAMAGED, Outcome.DAMAGED))
        self.assertEqual((batch.counters, batch.rows), (1, 2))
        self.assertEqual(writer.finish().rows, 1)
        server.turn()
        self.assertEqual(client.transport.take(), b"INSERTED 2\r\n")

    def test_an_event_that_cannot_be_buried_in_the_store_is_buried_until_the_next_start(self):
        writer = HeldWriter()
        server = MemoryServer(Limits(resident=0), writer=writer, store=Unreadable(durable=True))
        client = server.connect()
        client.ask(b"put 0 0 60 4\r\nbody\r\n")
        writer.finish()
        client.transport.take()
        self.assertEqual(client.ask(b"reserve-with-timeout 0\r\n"), b"TIMED_OUT\r\n")
        damaged = WriteResult(Outcome.DAMAGED, Outcome.DAMAGED)
        while writer.batches:
            writer.finish(damaged)
            server.turn()
        self.assertIn(b"state: buried\n", client.ask(b"stats-job 1\r\n"))

    def test_a_batch_is_full_by_its_bytes_too(self):
        writer = HeldWriter()
        client = MemoryServer(writer=writer).connect()
        client.ask(b"put 0 0 60 60000\r\n%b\r\n" % bytes(60000) * 20)
        self.assertEqual([writer.finish().rows for _ in range(2)], [18, 2])

    def test_a_kick_takes_fewer_of_large_events(self):
        writer = HeldWriter()
        server = MemoryServer(writer=writer)
        client = server.connect()
        client.ask(b"put 0 9 60 60000\r\n%b\r\n" % bytes(60000) * 7)
        writer.finish()
        client.transport.take()
        client.ask(b"kick 7\r\n")
        self.assertEqual(writer.finish().rows, 5)
        server.turn()
        self.assertEqual(writer.finish().rows, 2)
        self.assertEqual(client.transport.take(), b"KICKED 7\r\n")

    def test_a_kick_that_fails_leaves_the_order_of_the_buried(self):
        writer = HeldWriter()
        server = MemoryServer(writer=writer)
        client = server.connect()
        client.ask(PUT * 2)
        writer.finish()
        for number in (2, 1):
            client.ask(b"reserve-job %d\r\nbury %d 0\r\n" % (number, number))
            writer.finish()
        client.ask(b"kick 2\r\n")
        writer.finish(WriteResult(Outcome.FULL, Outcome.FULL))
        client.transport.take()
        self.assertTrue(client.ask(b"peek-buried\r\n").startswith(b"FOUND 2 "))


class FailingMaintenance(MemoryStore):
    def maintain(self):
        raise OSError("no")


class ThreadWriterTests(TestCase):
    async def test_a_store_whose_maintenance_fails_is_still_written_to(self):
        from twisted.internet import reactor

        writer = ThreadWriter(FailingMaintenance(), reactor.callFromThread)
        for _ in range(2):
            written = Deferred()
            writer.submit(Batch(), lambda _, done, fired=written: fired.callback(done))
            await written
        writer.stop()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)
