"""UNIX streams: their interfaces, and descriptors that cannot be sent."""

import os
import tempfile

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IFileDescriptorReceiver,
    IPushProducer,
    ISystemHandle,
    ITLSTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.protocols import tls
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.certificates import make_certificates
from tests.reactor.connections import Recorder, run


async def connected(reactor, server, client=None):
    """Return a client that is connected to `server` over a UNIX socket, and the port."""
    client = client or Recorder()
    path = f"{tempfile.mkdtemp()}/s"
    port = reactor.listenUNIX(path, Factory.forProtocol(lambda: server))
    reactor.connectUNIX(path, ClientFactory.forProtocol(lambda: client))
    await client.made
    await server.made
    return client, port


class UNIXStreamTests(SynchronousTestCase):
    def test_a_descriptor_that_cannot_be_sent_ends_the_connection(self):
        async def scenario(reactor):
            with tempfile.TemporaryDirectory() as folder:
                client = Recorder()
                port = reactor.listenUNIX(f"{folder}/s", Factory.forProtocol(Protocol))
                reactor.connectUNIX(f"{folder}/s", ClientFactory.forProtocol(lambda: client))
                await client.made
                client.transport.sendFileDescriptor(-1)
                client.transport.write(b"x")
                await client.lost
                self.assertEqual(client.why, str(ConnectionLost()))
                await port.stopListening()

        run(self, scenario)

    def test_a_descriptor_goes_with_bytes_of_its_turn_written_before_or_after(self):
        class Receiver(Recorder):
            def __init__(self):
                super().__init__()
                self.descriptors = []

            def fileDescriptorReceived(self, descriptor):
                self.descriptors.append(descriptor)
                os.close(descriptor)

        async def scenario(reactor):
            for before, after in ((b"xy", b""), (b"", b"xy"), (b"x", b"y")):
                server = implementer(IFileDescriptorReceiver)(Receiver)()
                client, port = await connected(reactor, server)
                client.transport.write(before)
                client.transport.sendFileDescriptor(0)
                client.transport.write(after)
                self.assertEqual(await server.receive(2), b"xy")
                self.assertEqual(len(server.descriptors), 1)
                await port.stopListening()

        run(self, scenario)

    def test_TLS_may_start_at_once(self):
        certificates = make_certificates()

        class Server(Recorder):
            def connectionMade(self):
                self.transport.startTLS(certificates.server_options())
                super().connectionMade()

            def dataReceived(self, data):
                self.transport.write(data)

        class Client(Recorder):
            def connectionMade(self):
                self.transport.startTLS(certificates.client_options())
                self.transport.write(b"hello")
                super().connectionMade()

        async def scenario(reactor):
            self.patch(tls, "_get_default_clock", lambda: reactor)  # not trial's reactor
            client, port = await connected(reactor, Server(), Client())
            self.assertEqual(await client.receive(5), b"hello")
            client.transport.loseConnection()
            self.assertIs(await client.lost, ConnectionDone)
            await port.stopListening()

        run(self, scenario)

    def test_it_provides_the_interfaces_of_its_transports(self):
        async def scenario(reactor):
            with tempfile.TemporaryDirectory() as folder:
                server, client = Recorder(), Recorder()
                port = reactor.listenUNIX(f"{folder}/s", Factory.forProtocol(lambda: server))
                reactor.connectUNIX(f"{folder}/s", ClientFactory.forProtocol(lambda: client))
                await client.made
                await server.made
                for transport in (client.transport, server.transport):
                    for interface in (IUNIXTransport, ITLSTransport, ISystemHandle):
                        verifyObject(interface, transport)
                    verifyObject(IConsumer, transport)
                    verifyObject(IPushProducer, transport)
                client.transport.loseConnection()
                self.assertIs(await server.lost, ConnectionDone)
                await client.lost
                await port.stopListening()

        run(self, scenario)
