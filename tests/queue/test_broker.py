"""The broker and the writer thread go on when a client or the store's maintenance fails."""

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from evserve.queue.store import Batch, MemoryStore, ThreadWriter
from tests.queue.memory_server import MemoryServer


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
