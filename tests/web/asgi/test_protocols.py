import asyncio

from evserve.web.asgi.connection import HEAD_TIME
from evserve.web.asgi.protocols import MAX_HEAD, MAX_UNREAD_PINGS
from tests.web.asgi.memory_server import GET, UPGRADE, Echo, ServerCase, Slow, hello
from tests.web.memory_connection import MemoryConnection, connect


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Gathering(MemoryConnection):
    """A transport that sends at the end of a turn, or when it is told to, as evserve's does."""

    flushed = 0

    def flush(self):
        self.flushed = len(self.sent)


class FlushTests(ServerCase):
    def test_a_single_answer_does_not_wait_for_the_end_of_the_turn(self):
        self.serve(hello)
        connection = connect(self.factory, Gathering)
        answer = self.send(connection, GET)
        self.assertIn(b"hello", answer)
        self.assertEqual(connection.flushed, len(answer))

    def test_answers_beside_other_requests_are_sent_together(self):
        application = Slow()
        self.serve(application)
        connections = [connect(self.factory, Gathering) for _ in range(2)]
        for each in connections:
            self.send(each, GET)
        self.in_loop(application.go.set)
        for each in connections:
            self.assertIn(b"hello", self.received(each))
        self.assertEqual(connections[0].flushed, 0)


class HeadTests(ServerCase):
    def setUp(self):
        super().setUp()
        self.application = Slow()
        self.serve(self.application)
        self.connection = self.connect()

    def send_until_closed(self, piece, limit):
        """Send a piece again and again; return how many bytes it took."""
        count = 0
        while self.connection.state == "open" and count < limit:
            self.send(self.connection, piece)
            count += len(piece)
        return count

    def test_an_endless_head_is_refused(self):
        for start, piece in (
            (b"GET /", b"x" * 1000),
            (b"GET / HTTP/1.1\r\n", b"A: b\r\n" * 100),
            (b"GET / HTTP/1.1\r\nA: ", b"x" * 1000),
        ):
            self.connection = self.connect()
            self.send(self.connection, start)
            sent = self.send_until_closed(piece, 2 * MAX_HEAD)
            self.assertLess(sent, MAX_HEAD + 1001)
            self.assertTrue(self.connection.sent.startswith(b"HTTP/1.1 431 "))

    def test_an_endless_trailer_ends_the_connection(self):
        self.send(self.connection, CHUNKED + b"0\r\n")
        sent = self.send_until_closed(b"A: b\r\n" * 100, 2 * MAX_HEAD)
        self.assertLess(sent, MAX_HEAD + 1001)
        self.assertEqual(self.connection.sent, b"")

    def test_a_long_body_is_no_head(self):
        self.in_loop(self.application.go.set)
        self.send(self.connection, CHUNKED)
        chunk = b"5\r\nhello\r\n" * 100
        self.assertEqual(self.send_until_closed(chunk, 2 * MAX_HEAD), 132 * 1000)
        self.assertIn(b"hello", self.send(self.connection, b"0\r\n\r\n" + GET))

    def test_many_requests_are_no_long_head(self):
        self.in_loop(self.application.go.set)
        self.assertGreaterEqual(self.send_until_closed(GET, 2 * MAX_HEAD), 2 * MAX_HEAD)
        self.assertEqual(self.connection.state, "open")

    def test_a_head_that_comes_too_slowly_is_refused(self):
        self.send(self.connection, GET[:5])
        for _ in range(HEAD_TIME):
            self.second_passed()
        self.assertEqual(self.connection.state, "open")
        self.second_passed()
        self.assertEqual(self.connection.state, "closing")
        self.assertTrue(self.connection.sent.startswith(b"HTTP/1.1 408 "))

    def test_an_answer_may_take_its_time(self):
        self.send(self.connection, GET)
        for _ in range(2 * HEAD_TIME):
            self.second_passed()
        self.assertEqual(self.connection.state, "open")
        self.in_loop(self.application.go.set)
        self.assertIn(b"hello", self.received(self.connection))
        for _ in range(2 * HEAD_TIME):  # uvicorn's own time-out has begun, which the loop keeps
            self.second_passed()
        self.assertEqual(self.connection.state, "open")

    def test_a_body_that_is_ignored_may_take_its_time(self):
        self.serve(hello)
        connection = self.connect()
        self.send(connection, CHUNKED)
        for _ in range(3):
            self.send(connection, b"5\r\nhello\r\n")
            for _ in range(HEAD_TIME - 1):
                self.second_passed()
        self.assertEqual(connection.state, "open")

    def test_the_time_is_that_of_one_head(self):
        self.in_loop(self.application.go.set)
        for _ in range(3):
            self.send(self.connection, GET[:5])
            for _ in range(HEAD_TIME - 1):
                self.second_passed()
            self.assertIn(b"hello", self.send(self.connection, GET[5:]))


class UpgradeTests(ServerCase):
    def test_a_head_that_is_too_large_for_websockets_is_refused(self):
        self.serve(Echo())
        for name, status in (
            (b"A: %s\r\n" % (b"x" * 20_000), b"431"),
            (b"A: b\r\n" * 300, b"431"),
        ):
            connection = self.connect()
            got = self.send(connection, UPGRADE[:-2] + name + b"\r\n")
            self.assertTrue(got.startswith(b"HTTP/1.1 %s " % status), got)
            self.assertEqual(connection.state, "closed")

    def test_a_head_that_websockets_does_not_answer_is_refused(self):
        self.serve(Echo())
        connection = self.connect()
        got = self.send(connection, UPGRADE[:-2] + b"Content-Length: 2\r\n\r\nhi")
        self.assertTrue(got.startswith(b"HTTP/1.1 400 "), got)
        self.assertEqual(connection.state, "closed")

    def test_another_upgrade_is_ignored(self):
        self.serve(hello)
        got = self.send(
            self.connect(),
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        )
        self.assertIn(b"\r\n\r\nhello", got)


class PingTests(ServerCase):
    """Pings of a client that has read nothing of 400,000 bytes."""

    def setUp(self):
        super().setUp()
        self.application_sends = asyncio.Event()

        async def application(scope, receive, send):
            await send({"type": "websocket.accept"})
            while True:
                await send({"type": "websocket.send", "bytes": bytes(400_000)})
                await self.application_sends.wait()
                self.application_sends.clear()

        self.serve(application)
        self.connection = self.connect()
        self.connection.stop_reading()
        self.send(self.connection, UPGRADE)

    def ping(self, count):
        self.in_loop(self.connection.receive, b"\x89\x80\x00\x00\x00\x00" * count)

    def test_some_are_answered(self):
        count = MAX_UNREAD_PINGS - 1
        for rounds in (1, 2):
            self.ping(count)
            self.in_loop(self.connection.read_again)
            self.ping(1)
            pongs = self.received(self.connection).count(b"\x8a\x00")
            self.assertEqual(pongs, rounds * (count + 1))
            self.in_loop(self.connection.stop_reading)
            self.in_loop(self.application_sends.set)
        self.assertEqual(self.connection.state, "open")

    def test_a_flood_of_them_ends_the_connection(self):
        self.ping(2 * MAX_UNREAD_PINGS)
        self.assertEqual(self.connection.state, "aborted")
        self.assertEqual(self.server.state.connections, set())
