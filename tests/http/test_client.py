"""Calls: requests, time limits, pausing, redirects, cookies, authentication."""

import gzip

from twisted.trial.unittest import SynchronousTestCase

from evserve.http.auth import Auth
from evserve.http.cookies import Cookies
from evserve.http.errors import BadRequest, Cancelled, UnwantedBody
from evserve.http.headers import Headers
from evserve.http.request import Request
from evserve.http.settings import Timeouts
from evserve.http.url import parse_url
from tests.http.memory_network import HOST, Network
from tests.http.recording_receiver import RecordingReceiver, fetch


class Case(SynchronousTestCase):
    def setUp(self):
        self.network = Network()

    def begin(self, url=HOST, client=None, on_piece=None, settings=None, **options):
        self.client = client or self.network.client(**(settings or {}))
        call = fetch(self.client, url, on_piece, **options)
        return call, self.network.accept()


class HeadReceiver(RecordingReceiver):
    def started(self, head, url):
        raise UnwantedBody("seen enough")


class RequestTests(Case):
    def test_a_request_has_the_necessary_headers(self):
        _, peer = self.begin(f"{HOST}/a b?ü")
        lines = peer.take().split(b"\r\n")
        self.assertEqual(lines[0], b"GET /a%20b?%C3%BC HTTP/1.1")
        self.assertEqual(
            sorted(lines[1:-2]),
            [
                b"Accept-Encoding: gzip, deflate, br, zstd",
                b"Accept: */*",
                b"Host: 192.0.2.1",
                b"User-Agent: evserve",
            ],
        )

    def test_the_callers_headers_replace_ours(self):
        headers = Headers(
            [(b"host", b"example.com"), (b"user-agent", b"me"), (b"Content-Length", b"7")]
        )
        _, peer = self.begin(headers=headers, decode=False)
        self.assertEqual(
            peer.take(),
            b"GET / HTTP/1.1\r\nAccept: */*\r\nhost: example.com\r\nuser-agent: me\r\n\r\n",
        )

    def test_requests_that_follow_one_another_have_their_own_headers(self):
        mine, other = Headers([(b"X-A", b"1")]), Headers([(b"X-A", b"2")])
        _, peer = self.begin()
        for headers, decode, said in (
            (mine, True, b"X-A: 1\r\n"),
            (mine, True, b"X-A: 1\r\n"),
            (other, True, b"X-A: 2\r\n"),
            (mine, False, b"X-A: 1\r\n"),
            (Headers(), True, b""),
        ):
            peer.ok()
            peer.take()
            fetch(self.client, f"{HOST}/next", headers=headers, decode=decode)
            sent = peer.take()
            self.assertTrue(sent.startswith(b"GET /next HTTP/1.1\r\nHost: 192.0.2.1\r\n"))
            self.assertIn(said, sent)
            self.assertEqual(b"X-A" in sent, bool(said))
            self.assertEqual(b"Accept-Encoding" in sent, decode)

    def test_bytes_are_sent_with_their_length(self):
        _, peer = self.begin(method=b"POST", body=b"a=b")
        self.assertTrue(peer.take().endswith(b"Content-Length: 3\r\n\r\na=b"))
        _, peer = self.begin(method=b"POST")
        self.assertIn(b"Content-Length: 0\r\n", peer.take())

    def test_invalid_requests_are_refused_at_once(self):
        client = self.network.client()
        for options in (
            {"method": b"GET /"},
            {"method": b"CONNECT"},
            {"headers": Headers([(b"A", b"b\r\nC: d")])},
        ):
            self.assertRaises(BadRequest, fetch, client, HOST, **options)

    def test_a_host_that_no_certificate_can_name_is_a_bad_url(self):
        client = self.network.client()
        for host in ("a+b.example", "a~b", "x!", "a*b.c"):
            call = fetch(client, f"https://{host}/")
            self.assertEqual(call.outcome, "BadURL", host)
        self.assertIn("'a*b.c' cannot be a name in a certificate", str(call.error))
        self.assertEqual((self.network.attempts, client._calls), (0, set()))

    def test_a_redirect_to_such_a_host_fails_the_call(self):
        call, peer = self.begin()
        peer.ok(b"", b"Location: https://a+b.example/", status=b"302 Found")
        self.assertEqual(call.outcome, "BadURL")

    def test_credentials_go_with_the_request(self):
        basic = b"Authorization: Basic dTpw\r\n"
        for url, auth in ((HOST, Auth("u", "p")), ("http://u:p@192.0.2.1/", None)):
            _, peer = self.begin(url, auth=auth)
            self.assertIn(basic, peer.take())


class TimeTests(Case):
    timeouts = Timeouts(connect=5, idle=2, total=10)

    def start(self, **options):
        return self.begin(settings={"timeouts": self.timeouts}, **options)

    def test_the_idle_timeout_ends_a_silent_call(self):
        call, peer = self.start()
        self.network.advance(1.5)
        self.assertFalse(call.is_over)
        self.network.advance(1)
        self.assertEqual((call.outcome, peer.is_open), ("IdleTimeout", False))

    def test_the_total_timeout_ends_a_slow_but_active_call(self):
        call, peer = self.start()
        peer.answer(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(99):
            self.network.advance(0.1)
            peer.answer(b"x")
        self.assertFalse(call.is_over)
        self.network.advance(0.2)
        self.assertEqual(call.outcome, "TotalTimeout")

    def test_the_total_is_exact_however_coarse_the_sweep(self):
        call, _ = self.begin(timeouts=Timeouts(idle=9, total=0.6))
        self.network.reactor.pump([0.25, 0.25, 0.09])
        self.assertFalse(call.is_over)
        self.network.reactor.pump([0.02])
        self.assertEqual(call.outcome, "TotalTimeout")

    def test_the_total_counts_waiting_and_redirects(self):
        client = self.network.client(per_origin=1, timeouts=self.timeouts)
        first = fetch(client, HOST, timeouts=Timeouts(idle=99, total=99))
        second = fetch(client, HOST)
        self.network.accept()
        self.network.advance(11)
        self.assertEqual((first.is_over, second.outcome), (False, "TotalTimeout"))

    def test_a_paused_reader_causes_no_idle_timeout(self):
        call, peer = self.start()
        peer.answer(b"HTTP/1.1 200 OK\r\n\r\nx")
        call.call.pause()
        self.network.advance(5)
        self.assertFalse(call.is_over)
        call.call.resume()
        self.network.advance(2.5)
        self.assertEqual(call.outcome, "IdleTimeout")


class PaceTests(Case):
    def test_nothing_is_delivered_while_paused(self):
        def rest(_):
            call.call.pause()

        call, peer = self.begin(on_piece=rest)
        peer.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 3)
        self.assertEqual((call.body, peer.wire.producerState), (b"x", "paused"))
        call.call.resume()
        self.assertEqual((call.body, peer.wire.producerState), (b"xx", "paused"))
        call.call.resume()
        call.on_piece = None
        call.call.resume()
        self.assertEqual((call.body, peer.wire.producerState), (b"xxx", "producing"))
        peer.answer(b"0\r\n\r\n")
        self.assertEqual(call.outcome, b"xxx")

    def test_a_body_that_ended_meanwhile_frees_its_connection(self):
        call, peer = self.begin(on_piece=lambda _: call.call.pause())
        peer.answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n1\r\ny\r\n0\r\n\r\n"
        )
        self.assertEqual(
            (call.body, call.is_over, peer.wire.producerState), (b"x", False, "producing")
        )
        other = fetch(self.client, HOST)
        peer.ok()
        self.assertEqual(other.outcome, b"ok")
        call.on_piece = None
        call.call.resume()
        self.assertEqual(call.outcome, b"xy")

    def test_a_compressed_body_is_not_decompressed_while_paused(self):
        body = gzip.compress(bytes(1_000_000))
        call, peer = self.begin(on_piece=lambda _: call.call.pause())
        peer.ok(body, b"Content-Encoding: gzip")
        self.assertEqual(len(call.body), 65536)
        while not call.is_over:
            call.call.resume()
        self.assertEqual(len(call.body), 1_000_000)

    def test_resuming_from_within_a_piece_keeps_the_order(self):
        def blink(_):
            call.call.pause()
            call.call.resume()

        call, peer = self.begin(on_piece=blink)
        peer.answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        )
        self.assertEqual(call.outcome, b"ab")

    def test_corruption_found_late_is_still_an_error(self):
        body = gzip.compress(bytes(200_000))[:-3]
        call, peer = self.begin(on_piece=lambda _: call.call.pause())
        peer.ok(body, b"Content-Encoding: gzip")
        while not call.is_over:
            call.call.resume()
        self.assertEqual(call.outcome, "CorruptBody")

    def test_a_call_paused_before_its_head_delivers_only_the_head(self):
        for settings, line in (
            ({}, b"X: 1"),
            ({"max_body": 9}, b"X: 1"),
            ({}, b"Content-Encoding: gzip"),
        ):
            call, peer = self.begin(settings=settings)
            call.call.pause()
            peer.ok(gzip.compress(b"ok") if b"gzip" in line else b"ok", line)
            self.assertEqual((call.head.status, call.body, call.is_over), (200, b"", False))
            call.call.resume()
            self.assertEqual(call.outcome, b"ok")

    def test_a_paused_call_follows_its_redirect_and_delivers_nothing_of_it(self):
        call, peer = self.begin()
        call.call.pause()
        peer.ok(b"moved", b"Location: /b", status=b"301 Moved")
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhe")
        self.assertEqual((call.body, peer.wire.producerState), (b"", "paused"))
        call.call.resume()
        self.assertEqual((call.body, peer.wire.producerState), (b"he", "producing"))
        peer.answer(b"re")
        self.assertEqual(call.outcome, b"here")

    def test_a_call_paused_before_its_head_may_still_be_idle_for_too_long(self):
        call, _ = self.begin(settings={"timeouts": Timeouts(connect=5, idle=2, total=10)})
        call.call.pause()
        self.network.advance(3)
        self.assertEqual(call.outcome, "IdleTimeout")

    def test_pausing_before_and_resuming_after_the_end_do_no_harm(self):
        call, peer = self.begin()
        call.call.pause()
        call.call.resume()
        peer.ok()
        call.call.resume()
        self.assertEqual(call.outcome, b"ok")


class EndingTests(Case):
    def test_a_call_can_be_cancelled_at_every_stage(self):
        for told in (
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        ):
            call, peer = self.begin()
            peer.answer(told)
            call.call.cancel()
            call.call.cancel()
            self.assertEqual((call.outcome, peer.is_open), ("Cancelled", False))

    def test_a_waiting_call_can_be_cancelled(self):
        client = self.network.client(per_origin=1)
        fetch(client, HOST)
        waiting = fetch(client, HOST)
        waiting.call.cancel(Cancelled("enough"))
        self.assertEqual(str(waiting.error), "enough")

    def test_cancelling_from_within_a_piece_stops_the_rest(self):
        call, peer = self.begin(on_piece=lambda _: call.call.cancel())
        peer.answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        )
        self.assertEqual((call.outcome, call.body, peer.is_open), ("Cancelled", b"a", False))

    def test_nothing_follows_a_cancellation_of_a_coded_body(self):
        call, peer = self.begin(on_piece=lambda _: call.call.cancel())
        peer.ok(gzip.compress(bytes(1_000_000)), b"Content-Encoding: gzip")
        self.assertEqual((call.outcome, len(call.body)), ("Cancelled", 65536))

    def test_a_reader_that_fails_ends_the_call_with_its_error(self):
        def fail(_):
            raise OSError("disk full")

        call, peer = self.begin(on_piece=fail)
        peer.ok()
        self.assertEqual((call.outcome, peer.is_open), ("OSError", False))

    def test_bodies_longer_than_allowed_are_refused_declared_or_not(self):
        for wire in (
            b"Content-Length: 11\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
            b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"hello world"),
        ):
            call, peer = self.begin(settings={"max_body": 10})
            peer.answer(b"HTTP/1.1 200 OK\r\n" + wire)
            self.assertEqual(call.outcome, "BodyTooLarge")
        call, peer = self.begin(settings={"max_body": 10})
        peer.ok(b"0123456789")
        self.assertEqual(call.outcome, b"0123456789")

    def test_the_callers_limits_are_the_error_of_a_response_that_has_other_faults(self):
        for line, settings, error in (
            (b"Content-Length: 11\r\nContent-Length: 11", {"max_body": 4}, "BodyTooLarge"),
            (b"Content-Length: " + b"9" * 30, {"max_body": 4}, "BodyTooLarge"),
            (b"Content-Length: 4, 4\r\nContent-Encoding: foo", {}, "UnsupportedEncoding"),
            (b"Content-Length: x\r\nContent-Encoding: foo", {}, "UnsupportedEncoding"),
            (b"Content-Length: x", {"max_body": 4}, "BadResponse"),
        ):
            call, peer = self.begin(settings=settings)
            peer.answer(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n")
            self.assertEqual((call.outcome, call.head.status), (error, 200), line)
            self.assertFalse(peer.is_open)

    def test_bodies_stay_coded_without_decode(self):
        call, peer = self.begin(decode=False)
        peer.ok(b"not gzip", b"Content-Encoding: gzip")
        self.assertEqual(call.outcome, b"not gzip")


class RedirectTests(Case):
    def test_a_redirect_is_followed_on_the_same_connection(self):
        call, peer = self.begin(f"{HOST}/a")
        peer.ok(b"moved", b"Location: /b", status=b"301 Moved")
        peer.ok(b"here")
        self.assertEqual((call.outcome, str(call.url)), (b"here", f"{HOST}/b"))
        [(url, head)] = call.call.history
        self.assertEqual((str(url), head.status), (f"{HOST}/a", 301))
        self.assertEqual(self.network.attempts, 1)

    def test_a_redirect_is_the_response_if_not_followed(self):
        call, peer = self.begin(follow=False)
        peer.ok(b"moved", b"Location: /b", status=b"301 Moved")
        self.assertEqual((call.outcome, call.head.status), (b"moved", 301))

    def test_a_redirect_that_leads_nowhere_is_the_response(self):
        for lines in ((), (b"Location:",), (b"Location: \t", b"Location:")):
            call, peer = self.begin()
            peer.ok(b"moved", *lines, status=b"302 Found")
            self.assertEqual((call.outcome, call.head.status), (b"moved", 302))

    def test_too_many_redirects_are_an_error(self):
        call, peer = self.begin(settings={"max_redirects": 3})
        for _ in range(4):
            peer.ok(b"", b"Location: /", status=b"302 Found")
        self.assertEqual(call.outcome, "TooManyRedirects")

    def test_a_redirects_body_of_unknown_or_large_length_is_not_waited_for(self):
        for framing in (
            b"",
            b"Content-Length: 70000\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip\r\n",
            b"Content-Length: x\r\n",
        ):
            call, peer = self.begin()
            peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /b\r\n" + framing + b"\r\n")
            self.assertFalse(peer.is_open, framing)
            self.network.accept().ok()
            self.assertEqual(call.outcome, b"ok")

    def test_a_redirects_body_in_one_read_keeps_the_connection(self):
        chunked = b"HTTP/1.1 302 Found\r\nLocation: /b\r\nTransfer-Encoding: chunked\r\n\r\n"
        call, peer = self.begin()
        peer.answer(chunked + b"5\r\nmoved\r\n0\r\n\r\n")
        peer.ok()
        self.assertEqual((call.outcome, self.network.attempts), (b"ok", 1))

    def test_a_redirects_short_body_keeps_the_connection_if_it_comes_soon(self):
        call, peer = self.begin()
        peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 5\r\n\r\nmo")
        peer.answer(b"ved")
        peer.ok()
        self.assertEqual((call.outcome, self.network.attempts), (b"ok", 1))

    def test_a_redirects_short_body_is_not_waited_for_long(self):
        call, peer = self.begin()
        peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 5\r\n\r\n")
        for _ in range(4):
            self.network.advance(0.2)
            if peer.is_open:
                peer.answer(b"m")
        self.assertFalse(peer.is_open)
        self.network.accept().ok()
        self.assertEqual(call.outcome, b"ok")

    def test_a_receiver_may_need_only_the_head(self):
        for framing, is_kept in ((b"", False), (b"Content-Length: 2\r\n", True)):
            call = HeadReceiver()
            self.network.client().fetch(Request(parse_url(HOST)), call)
            peer = self.network.accept()
            peer.answer(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
            self.assertEqual(call.is_over, not is_kept)
            if peer.is_open:
                peer.answer(b"ok")
            self.assertEqual((call.outcome, call.body), ("UnwantedBody", b""))
            self.assertEqual(peer.is_open, is_kept)


class CookieTests(Case):
    def test_cookies_are_kept_and_sent_back(self):
        cookies = Cookies()
        client = self.network.client(cookies=cookies)
        _, peer = self.begin(client=client)
        peer.ok(
            b"", b"Set-Cookie: a=1", b"Set-Cookie: b=2; Path=/x", b"Location: /x", status=b"302 F"
        )
        self.assertIn(b"Cookie: b=2; a=1\r\n", peer.take().partition(b"/x ")[2])
        peer.ok()
        fetch(client, HOST, headers=Headers([(b"Cookie", b"own=0")]))
        self.assertIn(b"\r\nCookie: own=0; a=1\r\n", peer.take())

    def test_cookies_of_a_redirect_go_to_its_target_if_they_match(self):
        _, peer = self.begin("http://192.0.2.1/a/b", client=self.network.client(Cookies()))
        peer.ok(b"", b"Set-Cookie: a=1", b"Location: /a/c", status=b"302 Found")
        peer.ok(b"", b"Set-Cookie: b=2; Path=/", b"Location: /d", status=b"307 Temporary")
        peer.ok(b"", b"Location: http://192.0.2.2/a/", status=b"301 Moved")
        sent = peer.take().split(b"\r\n\r\n")[:-1]
        cookies = [request.partition(b"\r\nCookie: ")[2] for request in sent]
        self.assertEqual(cookies, [b"", b"a=1", b"b=2"])
        self.assertNotIn(b"Cookie", self.network.accept().take())
