"""Writing, closing and back-pressure, where uvloop's ways are not Twisted's."""

import socket

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from tests.reactor.running import SECONDS, Recorder, listen, pair, run


def receive_rest(client):
    with client.makefile("rb") as stream:
        return stream.read()


class WritingTests(SynchronousTestCase):
    def test_what_is_written_after_loseConnection_in_the_same_turn_is_sent(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            client.transport.loseConnection()
            client.transport.write(b"last words")
            self.assertIs(await server.lost, ConnectionDone)
            return server.got

        self.assertEqual(run(self, scenario), b"last words")

    def test_an_answer_reaches_a_peer_that_half_closed_right_after_its_question(self):
        class Answering(Recorder):
            def dataReceived(self, data):
                self.transport.write(b"<" + data)
                self.transport.write(b">")

        async def scenario(reactor):
            server = Answering()
            port = listen(reactor, lambda: server)
            client = socket.create_connection(("127.0.0.1", port.getHost().port), SECONDS)
            self.addCleanup(client.close)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)  # both are there before the reactor looks
            self.assertIs(await server.lost, ConnectionDone)
            return client

        self.assertEqual(receive_rest(run(self, scenario)), b"<question>")

    def test_writing_to_a_lost_connection_is_ignored(self):
        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            server.transport.loseConnection()
            await DeferredList([client.lost, server.lost])
            client.transport.write(b"x")
            client.transport.writeSequence([b"x"])
            client.transport.loseConnection()
            client.transport.abortConnection()

        run(self, scenario)

    def test_a_push_producer_is_paused_by_a_peer_that_does_not_read_and_resumed_when_it_does(self):
        class Producer:
            def __init__(self):
                self.paused, self.resumed = Deferred(), Deferred()

            def pauseProducing(self):
                self.paused.callback(None)

            def resumeProducing(self):
                self.resumed.callback(None)

            def stopProducing(self):
                pass

        async def scenario(reactor):
            client, server, _ = await pair(reactor)
            client.transport.pauseProducing()
            producer = Producer()
            server.transport.registerProducer(producer, True)
            server.transport.write(b"x" * 20_000_000)
            await producer.paused
            client.transport.resumeProducing()
            await producer.resumed
            await client.receive(20_000_000)

        run(self, scenario)
