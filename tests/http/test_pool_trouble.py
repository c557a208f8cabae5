"""Connections that are stale, refused, or not what they seem."""

from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import DNSLookupError

from evserve.http.settings import Timeouts
from tests.http.gather import fetch
from tests.http.network import HOST
from tests.http.pool_case import PoolCase


class StaleTests(PoolCase):
    def stale(self, method, body=None, say=b""):
        client = self.network.client()
        fetch(client, HOST)
        peer = self.network.accept()
        peer.ok()
        peer.take()
        call = fetch(client, HOST, method=method, body=body)
        if say:
            peer.answer(say)
        peer.close()
        return call

    def test_what_may_be_repeated_is_sent_again(self):
        for method, body in ((b"GET", None), (b"PUT", b"x"), (b"DELETE", None)):
            call = self.stale(method, body)
            self.network.accept().ok()
            self.assertEqual(call.outcome, b"ok", method)

    def test_what_may_not_be_repeated_is_an_error(self):
        self.assertEqual(self.stale(b"POST", b"x").outcome, "ConnectionLost")

    def test_an_answer_that_had_begun_is_an_error(self):
        self.assertEqual(self.stale(b"GET", say=b"HTTP/1.1 2").outcome, "ConnectionLost")

    def test_a_new_connection_is_not_stale(self):
        call = fetch(self.network.client(), HOST)
        self.network.accept().close()
        self.assertEqual(call.outcome, "ConnectionLost")

    def test_after_some_stale_connections_it_is_an_error(self):
        client = self.network.client(per_origin=9)
        calls = self.fetches(client, 9)
        peers = [self.network.accept() for _ in calls]
        for peer in peers:
            peer.ok()
            peer.take()
        call = fetch(client, HOST)
        for _ in range(4):
            next(peer for peer in peers if peer.is_open and peer.wire.value()).close()
        self.assertEqual(call.outcome, "ConnectionLost")


class ConnectingTests(PoolCase):
    def test_why_a_connection_was_not_made(self):
        for error, name, words in (
            (Refused(), "ConnectFailed", "refuses connections"),
            (DNSLookupError(), "ConnectFailed", "cannot be resolved"),
            (OSError("no route"), "ConnectFailed", "no route"),
        ):
            call = fetch(self.network.client(), HOST)
            self.network.refuse(error)
            self.assertEqual(call.outcome, name)
            self.assertIn(words, str(call.error))

    def test_one_failure_is_one_callers(self):
        client = self.network.client(per_origin=1)
        first, second = self.fetches(client, 2)
        self.network.refuse(Refused())
        self.assertEqual((first.is_over, second.is_over), (True, False))
        self.network.accept().ok()
        self.assertEqual(second.outcome, b"ok")

    def test_connecting_has_its_own_time_out(self):
        client = self.network.client(timeouts=Timeouts(connect=5, idle=2, total=60))
        call = fetch(client, HOST)
        self.network.advance(4.9)
        self.assertFalse(call.is_over)
        self.network.advance(0.5)
        self.assertEqual(call.outcome, "ConnectTimeout")
        self.assertEqual(client.pool.open, 0)

    def test_a_handshake_that_never_ends_is_a_connection_never_made(self):
        client = self.network.client(timeouts=Timeouts(connect=5))
        call = fetch(client, "https://192.0.2.1/")
        peer = self.network.accept()
        self.network.advance(5.5)
        self.assertEqual((call.outcome, peer.is_open), ("ConnectTimeout", False))
        self.assertEqual(client.pool.open, 0)

    def test_a_server_that_closes_amid_the_handshake(self):
        client = self.network.client()
        call = fetch(client, "https://192.0.2.1/")
        self.network.accept().close()
        self.assertEqual(call.outcome, "ConnectFailed")
        self.assertEqual(client.pool.open, 0)

    def test_a_connection_nobody_waits_for_any_more_is_kept(self):
        client = self.network.client()
        fetch(client, HOST).call.cancel()
        peer = self.network.accept()
        call = fetch(client, HOST)
        peer.ok()
        self.assertEqual((call.outcome, self.network.attempts), (b"ok", 1))


class TransportTests(PoolCase):
    def test_one_failed_request_of_a_slot_leaves_the_others_their_turn(self):
        client = self.network.client(per_origin=1)
        first, second = self.fetches(client, 2)
        peer = self.network.accept()
        peer.answer(b"garbage\r\n\r\n")
        self.assertEqual((first.outcome, peer.is_open), ("BadResponse", False))
        self.network.accept().ok()
        self.assertEqual(second.outcome, b"ok")

    def test_a_released_connection_serves_before_one_being_made(self):
        client = self.network.client(per_origin=2)
        first, second, third = self.fetches(client, 3)
        peer = self.network.accept()
        for _ in range(3):
            peer.ok()
        self.assertEqual((first.is_over, second.is_over, third.is_over), (True, True, True))
        late = self.network.accept()
        self.assertTrue(late.is_open)

    def test_two_origins_starve_together(self):
        client = self.network.client(connections=1, per_origin=1)
        calls = [fetch(client, f"http://192.0.2.{n % 2 + 1}/{n}") for n in range(4)]
        for _ in range(4):
            self.network.accept().ok(b"ok", b"Connection: close")
        self.assertEqual([call.outcome for call in calls], [b"ok"] * 4)
        self.assertEqual(client.pool.open, 0)
