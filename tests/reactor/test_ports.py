"""Listening on a reactor that leaves accepting to uvloop."""

import os
import resource
import socket
import tempfile

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.reactor.connections import Recorder, connect, listen, run, turn


class PortTests(SynchronousTestCase):
    def test_a_paused_port_leaves_clients_waiting_until_it_accepts_again(self):
        async def scenario(reactor):
            server, client = Recorder(), Recorder()
            port = listen(reactor, lambda: server)
            port.stopReading()
            await connect(reactor, port, client)
            await turn(reactor, 0.05)
            self.assertFalse(server.made.called)
            port.startReading()
            await server.made
            await port.stopListening()

        run(self, scenario)

    def test_it_outlives_running_out_of_descriptors(self):
        async def scenario(reactor):
            port = listen(reactor, Recorder)
            await turn(reactor)  # uvloop opens some of its own when it starts to run
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            with socket.socket() as late:
                late.setblocking(False)
                highest = os.open(os.devnull, os.O_RDONLY)
                os.close(highest)
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
                try:
                    late.connect_ex(("127.0.0.1", port.getHost().port))
                    await turn(reactor, 0.1)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            client = Recorder()
            await connect(reactor, port, client)

        run(self, scenario)

    def test_a_unix_port_serves(self):
        async def scenario(reactor):
            with tempfile.TemporaryDirectory() as folder:
                server, client = Recorder(), Recorder()
                path = f"{folder}/s"
                port = reactor.listenUNIX(path, Factory.forProtocol(lambda: server))
                factory = Factory.forProtocol(lambda: client)
                factory.clientConnectionLost = factory.startedConnecting = lambda *_: None
                reactor.connectUNIX(path, factory)
                await client.made
                client.transport.write(b"hello")
                self.assertEqual(await server.receive(5), b"hello")
                self.assertEqual(client.transport.getPeer(), server.transport.getHost())
                await port.stopListening()

        run(self, scenario)
