"""Connections are shared, and kept no longer than they are good."""

from tests.http.gather import fetch
from tests.http.network import HOST
from tests.http.pool_case import PoolCase


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

    def test_first_come_first_served(self):
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

    def test_a_connection_is_given_up_for_an_origin_that_starves(self):
        client = self.network.client(connections=1)
        fetch(client, HOST)
        starving = fetch(client, "http://192.0.2.2/")
        busy = self.network.accept()
        busy.ok()
        self.assertFalse(busy.is_open)
        self.network.accept().ok()
        self.assertEqual(starving.outcome, b"ok")

    def test_who_gives_up_waiting_takes_nobodys_turn(self):
        client = self.network.client(connections=1)
        fetch(client, HOST)
        fetch(client, "http://192.0.2.2/").call.cancel()
        third = fetch(client, "http://192.0.2.3/")
        self.network.accept().ok(b"ok", b"Connection: close")
        self.network.accept().ok()
        self.assertEqual(third.outcome, b"ok")
        self.assertNotIn("192.0.2.2", str(client.pool._slots))

    def test_origins_leave_nothing_behind(self):
        client = self.network.client(keep_idle=5)
        for number in range(10):
            fetch(client, f"http://192.0.2.{number}/")
            self.network.accept().ok()
        self.network.advance(6)
        self.assertEqual((client.pool.open, client.pool._slots), (0, {}))
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])


class EndingTests(PoolCase):
    def test_close_is_understood_in_any_case(self):
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

    def test_a_connection_that_speaks_unasked_is_closed(self):
        client = self.network.client()
        fetch(client, HOST)
        peer = self.network.accept()
        peer.ok()
        peer.answer(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        self.assertFalse(peer.is_open)

    def test_what_follows_a_response_never_answers_the_next_request(self):
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
