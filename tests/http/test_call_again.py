"""A call that takes more than one request: redirects, cookies, passwords."""

from evserve.http.auth import Auth
from evserve.http.cookies import Cookies
from evserve.http.headers import Headers
from evserve.http.url import parse_url
from tests.http.call_case import Case
from tests.http.gather import fetch
from tests.http.network import HOST


class RedirectTests(Case):
    def test_a_redirect_is_followed_on_the_same_connection(self):
        call, peer = self.begin(f"{HOST}/a")
        peer.ok(b"moved", b"Location: /b", status=b"301 Moved")
        peer.ok(b"here")
        self.assertEqual((call.outcome, str(call.url)), (b"here", f"{HOST}/b"))
        [(url, head)] = call.call.history
        self.assertEqual((str(url), head.status), (f"{HOST}/a", 301))
        self.assertEqual(self.network.attempts, 1)

    def test_redirects_are_the_callers_if_not_followed(self):
        call, peer = self.begin(follow=False)
        peer.ok(b"moved", b"Location: /b", status=b"301 Moved")
        self.assertEqual((call.outcome, call.head.status), (b"moved", 301))

    def test_too_many_are_too_many(self):
        call, peer = self.begin(settings={"max_redirects": 3})
        for _ in range(4):
            peer.ok(b"", b"Location: /", status=b"302 Found")
        self.assertEqual(call.outcome, "TooManyRedirects")

    def test_a_redirects_long_body_is_not_waited_for(self):
        call, peer = self.begin()
        peer.answer(b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n")
        for _ in range(10):
            peer.answer(bytes(10_000))
        self.assertFalse(peer.is_open)
        self.network.accept().ok()
        self.assertEqual(call.outcome, b"ok")


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

    def test_a_jar_that_came_full_is_used(self):
        first = Cookies()
        _, peer = self.begin(client=self.network.client(cookies=first))
        peer.ok(b"", b"Set-Cookie: a=1")
        second = Cookies(first.jar)
        for cookie in first.jar:
            second.add(cookie)
        self.assertEqual(second.header(parse_url(HOST)), b"a=1")
        self.assertIsNone(second.header(parse_url("http://192.0.2.2/")))
        self.assertIsNone(Cookies().header(parse_url(HOST)))


class DigestTests(Case):
    challenge = b'WWW-Authenticate: Digest realm="r", nonce="n%d", qop="auth"'

    def test_a_challenge_is_answered_once(self):
        call, peer = self.begin(auth=Auth("u", "p", digest=True))
        self.assertNotIn(b"Authorization", peer.take())
        peer.ok(b"no", self.challenge % 1, status=b"401 Unauthorized")
        self.assertIn(b'Authorization: Digest username="u", realm="r", nonce="n1"', peer.take())
        peer.ok(b"no", self.challenge % 2, status=b"401 Unauthorized")
        self.assertEqual((call.head.status, call.outcome), (401, b"no"))

    def test_a_stale_nonce_is_replaced(self):
        call, peer = self.begin(auth=Auth("u", "p", digest=True))
        peer.ok(b"no", self.challenge % 1, status=b"401 Unauthorized")
        peer.ok(b"no", self.challenge % 2 + b", stale=TRUE", status=b"401 Unauthorized")
        self.assertIn(b'nonce="n2"', peer.take())
        peer.ok()
        self.assertEqual(call.outcome, b"ok")

    def test_what_cannot_be_answered_is_the_callers(self):
        for auth, line in (
            (None, self.challenge % 1),
            (Auth("u", "p"), self.challenge % 1),
            (Auth("u", "p", digest=True), b"WWW-Authenticate: Basic"),
        ):
            call, peer = self.begin(auth=auth)
            peer.ok(b"no", line, status=b"401 Unauthorized")
            self.assertEqual(call.outcome, b"no")
