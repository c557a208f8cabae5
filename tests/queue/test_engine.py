"""What must not stop the whole queue."""

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from evserve.queue.journal import Batch
from evserve.queue.store import MemoryStore
from evserve.queue.writer import ThreadWriter
from tests.queue.doubles import Rig


@define(eq=False)
class Party:
    error: Exception | None = None
    heard: list = field(factory=list)

    def answer(self, answer):
        self._hear("answer")

    def resume(self):
        self._hear("resume")

    def _hear(self, what):
        self.heard.append(what)
        if self.error is not None:
            raise self.error


class PumpTests(SynchronousTestCase):
    def test_a_client_that_cannot_be_told_holds_up_nobody(self):
        engine, bad, good = Rig().engine, Party(MemoryError()), Party()
        clients = [engine.connect(party) for party in (bad, good)]
        for client in clients:
            self.assertIsNone(engine.core.line.reserve(client, engine.now()))
            engine.core.line.hang_up(client)
        for _ in range(2):
            engine.wake(bad)
            engine.wake(good)
            engine.pump()
        self.assertEqual(bad.heard, ["answer", "resume", "resume"])
        self.assertEqual(good.heard, ["answer", "resume", "resume"])
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 3)


class Untidy(MemoryStore):
    def tidy(self):
        raise OSError("no")


class ThreadWriterTests(TestCase):
    async def test_a_store_that_cannot_be_tidied_is_still_written_to(self):
        from twisted.internet import reactor

        writer = ThreadWriter(Untidy(), reactor.callFromThread)
        for _ in range(2):
            written = Deferred()
            writer.submit(Batch(), lambda _, done, fired=written: fired.callback(done))
            await written
        writer.stop()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)
