"""Connections are shared, limited, and replaced when they are stale or fail."""

from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from evserve.http.settings import Timeouts
from tests.http.memory_network import HOST, Network
from tests.http.recording_receiver import fetch


class PoolCase(SynchronousTestCase):
    def setUp(self):
        self.network = Network()

    def fetches(self, client, count, host=HOST):
        return [fetch(client, f"{host}/{number}") for number in range(count)]


class SharingTests(PoolCase):
    def test_a_connection_is_used_again(self):
        client = self.network.client()
        first = fetch(client, HOST)
        peer = self.network.accept()
        peer.ok()
        second = fetch(client, HOST)
        peer.ok(b"again")
        self.assertEqual((first.outcome, second.outcome), (b"ok", b"again"))
        self.assertEqual(self.network.attempts, 1)

    def test_no_more_connections_per_origin_than_allowed(self):
        client = self.network.client(per_origin=2)
        calls = self.fetches(client, 5)
        self.assertEqual(self.network.attempts, 2)
        peers = [self.network.accept(), self.network.accept()]
        for peer in (peers[0], peers[1], peers[0], peers[0], peers[1]):
            peer.ok()
        self.assertTrue(all(call.is_over for call in calls))
        self.assertEqual(self.network.attempts, 2)

    def test_waiting_calls_are_served_in_order(self):
        client = self.network.client(per_origin=1)
        self.fetches(client, 3)
        peer = self.network.accept()
        asked = []
        for _ in range(3):
            asked.append(peer.take().split()[1])
            peer.ok()
        self.assertEqual(asked, [b"/0", b"/1", b"/2"])

    def test_origins_have_connections_of_their_own(self):
        client = self.network.client(per_origin=1)
        for url in (HOST, f"{HOST}:81", "http://192.0.2.2"):
            fetch(client, url)
        self.assertEqual(self.network.attempts, 3)

    def test_the_global_limit_holds_over_all_origins(self):
        client = self.network.client(connections=2)
        calls = [fetch(client, f"http://192.0.2.{number}/") for number in range(5)]
        for number in range(5):
            self.assertLessEqual(client.pool.open, 2)
            peer = self.network.accept()
            peer.answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            self.assertEqual(calls[number].outcome, b"ok")
        self.assertEqual(client.pool.open, 0)

    def test_an_idle_connection_makes_room_for_another_origin(self):
        client = self.network.client(connections=1)
        fetch(client, HOST)
        idle = self.network.accept()
        idle.ok()
        other = fetch(client, "http://192.0.2.2/")
        self.assertFalse(idle.is_open)
        self.network.accept().ok()
        self.assertEqual(other.outcome, b"ok")

    def test_a_connection_is_closed_for_an_origin_that_starves(self):
        client = self.network.client(connections=1)
        fetch(client, HOST)
        starving = fetch(client, "http://192.0.2.2/")
        busy = self.network.accept()
        busy.ok()
        self.assertFalse(busy.is_open)
        self.network.accept().ok()
        self.assertEqual(starving.outcome, b"ok")

    def test_a_cancelled_call_takes_no_turn(self):
        client = self.network.client(connections=1)
        fetch(client, HOST)
        fetch(client, "http://192.0.2.2/").call.cancel()
        third = fetch(client, "http://192.0.2.3/")
        self.network.accept().ok(b"ok", b"Connection: close")
        self.network.accept().ok()
        self.assertEqual(third.outcome, b"ok")
        self.assertNotIn("192.0.2.2", str(client.pool._origins))

    def test_origins_leave_nothing_behind(self):
        client = self.network.client(keep_idle=5)
        for number in range(10):
            fetch(client, f"http://192.0.2.{number}/")
            self.network.accept().ok()
        self.network.advance(6)
        self.assertEqual((client.pool.open, client.pool._origins), (0, {}))
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])


class EndingTests(PoolCase):
    def test_connection_close_is_recognized_in_any_case(self):
        client = self.network.client()
        for word in (b"close", b"Close", b"CLOSE", b"x, cLoSe"):
            call = fetch(client, HOST)
            peer = self.network.accept()
            peer.ok(b"ok", b"CONNECTION: " + word)
            self.assertEqual((call.outcome, peer.is_open), (b"ok", False))

    def test_idle_connections_are_closed_after_a_while(self):
        client = self.network.client(keep_idle=10)
        fetch(client, HOST)
        peer = self.network.accept()
        peer.ok()
        self.network.advance(9.5)
        self.assertTrue(peer.is_open)
        self.network.advance(1)
        self.assertFalse(peer.is_open)

    def test_a_connection_that_its_server_closed_is_not_used(self):
        client = self.network.client()
        fetch(client, HOST)
        peer = self.network.accept()
        peer.ok()
        peer.close()
        again = fetch(client, HOST)
        self.network.accept().ok()
        self.assertEqual(again.outcome, b"ok")

    def test_an_idle_connection_that_sends_data_is_closed(self):
        client = self.network.client()
        fetch(client, HOST)
        peer = self.network.accept()
        peer.ok()
        peer.answer(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        self.assertFalse(peer.is_open)

    def test_bytes_after_a_response_never_answer_the_next_request(self):
        client = self.network.client(per_origin=1)
        self.fetches(client, 2)
        peer = self.network.accept()
        smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + smuggled)
        self.assertFalse(peer.is_open)
        honest = self.network.accept()
        self.assertIn(b"/1", honest.take())

    def test_closing_the_client_ends_everything(self):
        client = self.network.client(per_origin=2)
        calls = self.fetches(client, 5)
        peer = self.network.accept()
        client.close()
        self.assertEqual({call.outcome for call in calls}, {"Cancelled"})
        self.assertFalse(peer.is_open)
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])


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

    def test_idempotent_requests_are_sent_again(self):
        for method, body in ((b"GET", None), (b"PUT", b"x"), (b"DELETE", None)):
            call = self.stale(method, body)
            self.network.accept().ok()
            self.assertEqual(call.outcome, b"ok", method)

    def test_other_requests_on_a_stale_connection_fail(self):
        self.assertEqual(self.stale(b"POST", b"x").outcome, "ConnectionLost")

    def test_a_response_that_had_begun_is_not_repeated(self):
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
    def test_failed_connections_have_named_errors(self):
        for error, name, words in (
            (Refused(), "ConnectFailed", "refuses connections"),
            (DNSLookupError(), "ConnectFailed", "cannot be resolved"),
            (OSError("no route"), "ConnectFailed", "no route"),
        ):
            call = fetch(self.network.client(), HOST)
            self.network.refuse(error)
            self.assertEqual(call.outcome, name)
            self.assertIn(words, str(call.error))

    def test_one_failure_fails_one_call(self):
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

    def test_a_connection_closed_during_the_handshake_is_an_error(self):
        client = self.network.client()
        call = fetch(client, "https://192.0.2.1/")
        self.network.accept().close()
        self.assertEqual(call.outcome, "ConnectFailed")
        self.assertEqual(client.pool.open, 0)

    def test_a_connection_whose_call_was_cancelled_is_kept(self):
        client = self.network.client()
        fetch(client, HOST).call.cancel()
        peer = self.network.accept()
        call = fetch(client, HOST)
        peer.ok()
        self.assertEqual((call.outcome, self.network.attempts), (b"ok", 1))


class TransportTests(PoolCase):
    def test_a_failed_request_leaves_the_others_of_its_origin_their_turn(self):
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
