"""UNIX streams: their interfaces, and descriptors that cannot be sent."""

import tempfile

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ISystemHandle,
    ITLSTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.reactor.connections import Recorder, run


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
