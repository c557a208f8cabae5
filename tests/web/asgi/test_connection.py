import json

from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.interfaces import IProtocolNegotiationFactory, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from evserve.interfaces import IBusy, IDrainable
from evserve.web.asgi.connection import HEAD_TIME
from tests.certificates import make_certificates
from tests.web.asgi.memory_server import (
    GET,
    LENGTH_5,
    MASKED_HI,
    UPGRADE,
    Echo,
    ServerCase,
    Slow,
    hello,
)
from tests.web.memory_connection import MemoryConnection, connect


@implementer(ISSLTransport)
class TLSConnection(MemoryConnection):
    """A connection with TLS, as far as a protocol asks for it."""


async def addresses(scope, receive, send):
    body = json.dumps([scope["client"], scope["server"], scope["scheme"]]).encode()
    length = b"content-length", b"%d" % len(body)
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class RequestTests(ServerCase):
    def test_requests_are_answered_one_after_another(self):
        self.serve(hello)
        connection = self.connect()
        for count in (1, 2):
            got = self.send(connection, GET)
            self.assertEqual(got.count(b"\r\n\r\nhello"), count)
        self.assertEqual(connection.state, "open")

    def test_a_client_that_ends_its_half_is_a_disconnect(self):
        for end in ("end", "abortConnection"):
            application = Slow()
            self.serve(application)
            connection = self.connect()
            self.send(connection, GET)
            self.in_loop(getattr(connection, end))
            self.in_loop(connection.settle)
            self.in_loop(application.go.set)
            self.assertEqual(application.received, [{"type": "http.disconnect"}])
            self.assertEqual(connection.sent, b"")

    def test_what_twisted_would_not_take_is_sent(self):
        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [LENGTH_5]})
            for body in (bytearray(b"he"), memoryview(b"llo")):
                more = len(body) == 2
                await send({"type": "http.response.body", "body": body, "more_body": more})

        self.serve(application)
        self.assertIn(b"\r\n\r\nhello", self.send(self.connect(), GET))

    def test_the_application_waits_while_the_client_does_not_read(self):
        sent = []

        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            for number in range(10):
                body = bytes(40_000)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                sent.append(number)
            await send({"type": "http.response.body"})

        self.serve(application)
        connection = self.connect()
        connection.stop_reading()
        self.send(connection, GET)
        self.assertEqual(len(sent), 2)
        self.in_loop(connection.read_again)
        self.received(connection)
        self.assertEqual(len(sent), 10)

    def test_a_client_that_leaves_frees_an_application_that_waits_for_it(self):
        ended = []

        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            for _ in range(4):
                body = bytes(40_000)
                await send({"type": "http.response.body", "body": body, "more_body": True})
            ended.append(scope)

        self.serve(application)
        connection = self.connect()
        connection.stop_reading()
        self.send(connection, GET)
        self.assertEqual(ended, [])
        self.in_loop(connection.abortConnection)
        self.assertEqual(len(ended), 1)

    def test_a_body_is_not_read_faster_than_it_is_taken(self):
        application = Slow()
        self.serve(application)
        connection = self.connect()
        self.send(connection, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
        for _ in range(3):
            self.send(connection, bytes(100_000))
        self.assertFalse(connection.reading)
        self.in_loop(application.go.set)
        self.assertEqual(len(application.received[0]["body"]), 100_000)


class BusyTests(ServerCase):
    def test_it_is_busy_while_a_request_is_answered_and_nothing_of_its_body_is_awaited(self):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n"
        expect = b"Expect: 100-continue\r\n"
        for sent, busy in (
            (GET, True),
            (head % (2, b"") + b"hi", True),
            (head % (2, b"") + b"h", False),
            (head % (2, b""), False),
            (head % (2, expect), True),  # the client waits
            (head % (200_000, b"") + bytes(100_000), True),  # more is not read
            (GET + GET[:10], True),
        ):
            application = Slow()
            self.serve(application)
            connection = self.connect()
            self.send(connection, sent)
            self.assertEqual(IBusy(connection.protocol).busy(), busy, sent[:99])

    def test_it_is_not_busy_without_a_request(self):
        self.serve(hello)
        connection = self.connect()
        for sent in (b"", GET, GET[:10]):
            self.send(connection, sent)
            self.assertFalse(IBusy(connection.protocol).busy())


class AddressTests(ServerCase):
    def ask(self, peer, kind=MemoryConnection):
        self.serve(addresses)
        connection = connect(self.factory, kind)
        connection.peer = peer
        return json.loads(self.send(connection, GET).partition(b"\r\n\r\n")[2])

    def test_of_a_client_on_the_network(self):
        self.assertEqual(
            self.ask(IPv6Address("TCP", "2001:db8::1", 4711)),
            [["2001:db8::1", 4711], ["192.0.2.1", 80], "http"],
        )

    def test_of_a_client_of_this_machine(self):
        self.assertIsNone(self.ask(UNIXAddress(b""))[0])
        self.assertIsNone(self.ask(UNIXAddress(None))[0])

    def test_over_tls(self):
        self.assertEqual(self.ask(UNIXAddress(None), TLSConnection)[2], "https")

    def test_the_address_is_asked_for_when_the_first_bytes_are_there(self):
        # Twisted's haproxy endpoint does not know it before.
        self.serve(addresses)
        connection = self.connect()
        connection.peer = IPv6Address("TCP", "2001:db8::2", 1)
        self.assertIn(b"2001:db8::2", self.send(connection, GET))


class StartTests(ServerCase):
    def test_nothing_is_read_before_the_application_has_started(self):
        self.serve(hello, started=False)
        connection = self.connect()
        self.assertEqual(self.send(connection, GET), b"")
        self.assertTrue(IBusy(connection.protocol).busy())
        self.in_loop(self.factory.serve)
        self.assertIn(b"hello", self.received(connection))
        self.assertFalse(IBusy(connection.protocol).busy())

    def test_what_a_layer_delivers_all_the_same_is_kept(self):
        self.serve(hello, started=False)
        connection = self.connect()
        for piece in (GET[:10], GET[10:]):
            self.in_loop(connection.protocol.dataReceived, piece)
        self.in_loop(self.factory.serve)
        self.assertIn(b"hello", self.received(connection))

    def test_a_client_may_leave_meanwhile(self):
        self.serve(hello, started=False)
        connection = self.connect()
        self.in_loop(connection.abortConnection)
        self.in_loop(self.factory.serve)
        self.assertEqual(self.factory.silent, set())

    def test_a_silent_client_is_closed_in_the_end(self):
        self.serve(hello)
        connection = self.connect()
        for _ in range(HEAD_TIME):
            self.second_passed()
        self.assertEqual(connection.state, "open")
        self.second_passed()
        self.assertEqual((connection.state, connection.sent), ("closing", b""))


@implementer(IProtocolNegotiationFactory)
class Browser(Factory):
    """Makes clients that offer the protocols which browsers offer."""

    protocol = Protocol

    def acceptableProtocols(self):
        return [b"h2", b"http/1.1"]


class TLSTests(ServerCase):
    """With Twisted's TLS; the client says nothing more."""

    def connect(self, *, handshake):
        options = make_certificates()
        self.lowest = StringTransport()
        factory = TLSMemoryBIOFactory(options.server_options(), False, self.factory, self.reactor)
        server = factory.buildProtocol(None)
        server.makeConnection(self.lowest)
        if handshake:
            trust = options.client_options()
            client = TLSMemoryBIOFactory(trust, True, Browser(), self.reactor).buildProtocol(None)
            answers = StringTransport()
            client.makeConnection(answers)
            for _ in range(3):
                for source, target in ((answers, server), (self.lowest, client)):
                    data = source.value()
                    source.clear()
                    if data:
                        self.in_loop(target.dataReceived, data)
            self.in_loop(client.write, GET)
            self.reactor.advance(0)  # Twisted's TLS gathers what is written in a turn
            self.in_loop(server.dataReceived, answers.value())
            return client
        return None

    def test_a_client_that_offers_protocols_gets_the_one_that_is_spoken(self):
        self.serve(hello)
        client = self.connect(handshake=True)
        self.assertEqual(client.negotiatedProtocol, b"http/1.1")
        self.assertEqual(len(self.server.state.connections), 1)

    def test_a_client_that_does_not_consent_to_the_end(self):
        self.serve(hello)
        for handshake in (True, False):
            self.connect(handshake=handshake)
            if handshake:
                self.in_loop(next(iter(self.server.state.connections)).shutdown)
            for _ in range(HEAD_TIME):
                self.second_passed()
            self.assertEqual(self.lowest.disconnecting, handshake)
            self.second_passed()
            self.assertTrue(self.lowest.disconnecting)

    def test_what_is_not_sent_yet_is_sent_first(self):
        self.serve(hello)
        self.connect(handshake=False)
        connection = next(iter(self.factory.silent))
        connection.transport._appSendBuffer.append(b"unsent")
        connection.close()
        self.second_passed()
        self.assertFalse(self.lowest.disconnecting)
        connection.transport._appSendBuffer.clear()
        self.second_passed()
        self.assertTrue(self.lowest.disconnecting)


class DrainTests(ServerCase):
    def drain(self, connection):
        self.in_loop(IDrainable(connection.protocol).drain)
        self.in_loop(connection.settle)

    def test_idle_connections_are_closed(self):
        self.serve(hello)
        silent, used = self.connect(), self.connect()
        self.send(used, GET)
        for connection in (silent, used):
            self.drain(connection)
            self.assertEqual(connection.state, "closed")

    def test_a_request_is_answered_first(self):
        application = Slow()
        self.serve(application)
        connection = self.connect()
        self.send(connection, GET)
        self.drain(connection)
        self.assertEqual((connection.state, connection.sent), ("open", b""))
        self.assertTrue(IBusy(connection.protocol).busy())
        self.in_loop(application.go.set)
        self.assertIn(b"\r\n\r\nhello", self.received(connection))
        self.assertEqual(connection.state, "closed")

    def test_half_a_head_is_a_request(self):
        self.serve(hello)
        connection = self.connect()
        self.send(connection, GET[:10])
        self.drain(connection)
        self.assertEqual(connection.state, "open")
        self.assertIn(b"\r\n\r\nhello", self.send(connection, GET[10:]))
        self.assertEqual(connection.state, "closed")

    def test_a_connection_that_waits_for_the_start_is_closed(self):
        self.serve(hello, started=False)
        connection = self.connect()
        self.drain(connection)
        self.assertEqual(connection.state, "closed")


class WebsocketTests(ServerCase):
    def setUp(self):
        super().setUp()
        self.application = Echo()
        self.serve(self.application)
        self.connection = self.connect()
        self.assertIn(b" 101 Switching Protocols", self.send(self.connection, UPGRADE))
        self.connection.sent.clear()

    def test_frames_go_to_the_websocket(self):
        self.assertEqual(self.send(self.connection, MASKED_HI), b"\x81\x02hi")
        self.assertEqual(self.send(self.connection, MASKED_HI), b"\x81\x02hi\x81\x02hi")

    def test_it_is_not_busy_by_itself(self):
        self.assertFalse(IBusy(self.connection.protocol).busy())

    def test_a_drain_closes_it_with_1012(self):
        self.in_loop(IDrainable(self.connection.protocol).drain)
        self.in_loop(self.connection.settle)
        self.assertEqual(self.connection.sent, b"\x88\x02\x03\xf4")
        self.assertEqual(self.connection.state, "closed")
        self.assertEqual(self.application.messages[-1]["code"], 1012)

    def test_a_client_that_leaves_frees_an_application_that_sends_to_it(self):
        async def application(scope, receive, send):
            await send({"type": "websocket.accept"})
            for _ in range(1000):
                await send({"type": "websocket.send", "bytes": bytes(40_000)})

        self.serve(application)
        connection = self.connect()
        connection.stop_reading()
        self.send(connection, UPGRADE)
        self.assertEqual(len(self.server.state.tasks), 1)
        self.in_loop(connection.abortConnection)
        self.assertEqual(self.server.state.tasks, set())

    def test_a_client_that_leaves_is_a_disconnect(self):
        self.in_loop(self.connection.abortConnection)
        self.assertEqual(self.application.messages[-1]["type"], "websocket.disconnect")
        self.assertEqual(self.server.state.connections, set())
