"""Proxies are chosen as by curl, used as RFC 9110 says, and named in their errors."""

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from evserve.http.errors import ProxyFailed
from evserve.http.proxy import Proxies, named_proxy, parse_proxy, proxies_from
from evserve.http.settings import Timeouts
from evserve.http.url import parse_url
from tests.http.memory_network import Network
from tests.http.proxy_failures import (
    HTTP,
    HTTPS,
    ORIGIN_FAILURES,
    PROXY,
    PROXY_FAILURES,
    ProxyCase,
)
from tests.http.recording_receiver import fetch


class ChoiceTests(SynchronousTestCase):
    def place(self, environment, url="http://example.com/"):
        proxy = proxies_from(environment).choose(parse_url(url).origin)
        return None if proxy is None else str(proxy.origin)

    def test_the_environment_is_read_as_curl_reads_it(self):
        for environment, url, expected in (
            ({}, "http://a/", None),
            ({"http_proxy": "p:3128"}, "http://a/", "http://p:3128"),
            ({"http_proxy": "p:3128"}, "https://a/", None),
            ({"HTTP_PROXY": "p:3128"}, "http://a/", None),
            ({"HTTPS_PROXY": "p:3128"}, "https://a/", "http://p:3128"),
            ({"https_proxy": "q", "HTTPS_PROXY": "p"}, "https://a/", "http://q:1080"),
            ({"ALL_PROXY": "https://p"}, "http://a/", "https://p"),
            ({"http_proxy": "http://p"}, "http://a/", "http://p:1080"),
            ({"http_proxy": "http://p:80/"}, "http://a/", "http://p"),
            ({"http_proxy": "", "all_proxy": "[::1]:7"}, "http://a/", "http://[::1]:7"),
            ({"all_proxy": "p", "no_proxy": "b, a"}, "http://a/", None),
            ({"all_proxy": "p", "no_proxy": "b a"}, "http://a/", None),
            ({"all_proxy": "socks5://p", "no_proxy": "*"}, "http://a/", None),
            (
                {"all_proxy": "socks5://p", "http_proxy": "p:1", "https_proxy": "p:1"},
                "http://a/",
                "http://p:1",
            ),
        ):
            self.assertEqual(self.place(environment, url), expected, environment)

    def test_no_proxy_entries_exempt_hosts(self):
        for entry, url, exempt in (
            ("*", "http://a/", True),
            ("example.com", "http://example.com/", True),
            ("example.com", "http://www.example.com/", True),
            (".example.com", "http://www.example.com/", True),
            ("*.example.com", "http://www.example.com/", True),
            ("example.com", "http://badexample.com/", False),
            ("example.com", "http://www.example.com./", True),
            ("Example.com.", "http://example.com/", True),
            (".", "http://example.com./", False),
            ("example.com:81", "http://example.com/", False),
            ("example.com:81", "http://example.com:81/", True),
            ("10.0.0.0/8", "http://10.1.2.3/", True),
            ("10.0.0.0/8", "http://11.1.2.3/", False),
            ("10.0.0.0/8", "http://ten.example/", False),
            ("::1", "http://[::1]/", True),
            ("[::1]:80", "http://[::1]/", True),
            ("fe80::/10", "http://[fe80::1]/", True),
            (",,", "http://a/", False),
        ):
            environment = {"http_proxy": "p", "no_proxy": entry}
            self.assertEqual(self.place(environment, url) is None, exempt, (entry, url))

    def test_a_star_exempts_everything(self):
        origin = parse_url("http://a/").origin
        self.assertIsNone(Proxies(parse_proxy("p"), exempt=("*",)).choose(origin))

    def test_a_proxy_may_require_a_password(self):
        self.assertEqual(parse_proxy("http://u:p@proxy:1").authorization, b"Basic dTpw")
        self.assertIsNone(parse_proxy("proxy").authorization)

    def test_an_invalid_proxy_is_refused_with_the_reason(self):
        for text, shown, why in (
            ("", "", "write http://host:port"),
            ("http://", "http://", "write http://host:port"),
            (":3128", ":3128", "write http://host:port"),
            ("//h:1", "", "write http://host:port"),
            ("http://h:1:2", "http://h:...", "write http://host:port"),
            ("h o:1", "h o:1", "write http://host:port"),
            ("http://h:0", "http://h:0", "its port is not a number from 1 to 65535"),
            ("http://h:99999", "http://h:99999", "its port is not a number from 1 to 65535"),
            ("http://h:123456", "http://h:123456", "its port is not a number from 1 to 65535"),
            ("h:x", "h:...", "its port is not a number from 1 to 65535"),
            ("ftp://x:1", "ftp://x:1", "unsupported scheme ftp (use http or https)"),
            (
                "SOCKS5://h",
                "socks5://h",
                "unsupported scheme socks5 (use http or https)",
            ),
        ):
            error = self.assertRaises(ProxyFailed, parse_proxy, text)
            self.assertEqual(str(error), f"cannot use the proxy {shown!r}: {why}")

    def test_a_password_is_not_shown(self):
        for text in (
            "ftp://u:secret@x:1",
            "http://u:secret@h:99999",
            "http://u:secret@:1",
            "http://u:se/cret@h:1",
            "http://u:a@secret@h:x",
            "http://u:secret",
            "u:secret",
            "u:secret@",
            "u:secret@h o",
            "u:secret@foo",
            "http://u:secret\ud800@h:1",
        ):
            error = self.assertRaises(ProxyFailed, named_proxy, text)
            self.assertNotIn("cret", str(error))

    def test_an_invalid_proxy_in_a_variable_names_the_variable(self):
        for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            error = self.assertRaises(ProxyFailed, proxies_from, {name: "ftp://u:secret@x:1"})
            self.assertTrue(str(error).startswith(f"{name}: cannot use the proxy 'ftp://...@x:1'"))

    def test_a_single_word_is_a_proxy_only_in_the_environment(self):
        for text in ("foo", "u:p@foo", "192.0.2.1"):
            error = self.assertRaises(ProxyFailed, named_proxy, text)
            self.assertIn("has neither a scheme nor a port: write http://host:port", str(error))
        for text in ("http://foo", "foo:1", "[::1]:1"):
            self.assertEqual(named_proxy(text), parse_proxy(text))

    def test_a_password_need_not_be_utf_8(self):
        for text in ("http://u:%e4@p:1", "http://u:\udce4@p:1"):
            self.assertEqual(parse_proxy(text).authorization, b"Basic dTrk")


class UseTests(SynchronousTestCase):
    def setUp(self):
        self.network = Network()
        proxy = parse_proxy("http://u:p@192.0.2.9:3128")
        self.client = self.network.client(proxies=Proxies(proxy, proxy))

    def test_plain_requests_name_the_whole_url(self):
        call = fetch(self.client, "http://example.com/a?b")
        peer = self.network.accept()
        self.assertEqual(self.network.last_place, ("192.0.2.9", 3128))
        sent = peer.take()
        self.assertTrue(sent.startswith(b"GET http://example.com/a?b HTTP/1.1\r\n"))
        self.assertIn(b"Proxy-Authorization: Basic dTpw\r\n", sent)
        peer.ok()
        self.assertEqual(call.outcome, b"ok")

    def tunnel(self, *answers, url="https://example.com/", end=None):
        call = fetch(self.client, url)
        peer = self.network.accept()
        self.asked = peer.take()
        for answer in answers:
            peer.answer(answer)
        if end:
            peer.wire.end(end)
        return call, peer

    def test_https_requests_go_through_a_tunnel(self):
        _, peer = self.tunnel(b"HTTP/1.1 200 Connection", b" established\r\n\r\n")
        self.assertEqual(
            self.asked,
            b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n"
            b"Proxy-Authorization: Basic dTpw\r\n\r\n",
        )
        self.assertEqual(peer.take()[:2], b"\x16\x03")  # a TLS handshake
        self.tunnel(url="https://[::1]:8443/")
        self.assertTrue(self.asked.startswith(b"CONNECT [::1]:8443 HTTP/1.1\r\n"))

    def test_a_refusal_of_the_proxy_is_an_error(self):
        for answer, name, words in (
            (b"HTTP/1.1 407 No\r\n\r\n", "ProxyFailed", "407 No: wrong user name or password"),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", "ProxyFailed", "answers 403 Forbidden"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "TunnelFailed", "answers 502 Bad Gateway"),
            (b"HTTP/1.1 503\r\n\r\n", "TunnelFailed", "answers 503"),
            (b"SSH-2.0\r\n", "ProxyFailed", "malformed response: invalid HTTP"),
        ):
            call, peer = self.tunnel(answer)
            self.assertEqual((call.outcome, peer.is_open), (name, False))
            self.assertIn("the proxy http://192.0.2.9:3128 ", str(call.error))
            self.assertIn(words, str(call.error))

    def test_a_proxy_that_closes_is_an_error(self):
        call, peer = self.tunnel()
        peer.close()
        self.assertEqual(call.outcome, "ProxyUnreachable")
        failed = "the proxy http://192.0.2.9:3128 failed: the connection "
        self.assertEqual(str(call.error), f"{failed}was closed")
        call, _ = self.tunnel(end=ConnectionLost())
        self.assertIn(f"{failed}broke", str(call.error))

    def test_a_tunnel_that_closes_during_the_handshake_is_an_error(self):
        call, peer = self.tunnel(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.answer(b"not tls at all")
        self.assertEqual(call.outcome, "TLSFailed")
        call, peer = self.tunnel(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.close()
        self.assertEqual(call.outcome, "ConnectFailed")

    def test_a_proxy_may_require_no_password(self):
        proxy = parse_proxy("192.0.2.9:3128")
        fetch(self.network.client(proxies=Proxies(https=proxy)), "https://example.com/")
        self.assertNotIn(b"Authorization", self.network.accept().take())

    def test_a_proxy_may_speak_tls_itself(self):
        proxy = parse_proxy("https://192.0.2.9")
        fetch(self.network.client(proxies=Proxies(proxy)), "http://example.com/")
        peer = self.network.accept()
        self.assertEqual(self.network.last_place, ("192.0.2.9", 443))
        self.assertEqual(peer.take()[:2], b"\x16\x03")


class ProxyErrorTests(ProxyCase):
    def test_the_error_names_the_proxy_and_not_the_origin(self):
        for behave, url, name, words, _ in PROXY_FAILURES:
            call = fetch(self.client(), url)
            behave(self.network)
            self.assertEqual(call.outcome, name, (behave, url))
            self.assertIn(words, str(call.error))
            self.assertNotIn("192.0.2.1 ", f"{call.error} ")

    def test_errors_beyond_the_tunnel_are_the_origins(self):
        for behave, name, words in ORIGIN_FAILURES:
            call = fetch(self.client(), HTTPS)
            behave(self.network)
            self.assertEqual(call.outcome, name)
            self.assertIn(words, str(call.error))
            self.assertNotIn(PROXY, str(call.error))

    def test_a_total_timeout_at_the_proxy_is_not_the_origins_fault(self):
        for url in (HTTP, HTTPS):
            call = fetch(self.client(timeouts=Timeouts(total=3)), url)
            self.network.advance(3.5)
            self.assertEqual((call.outcome, call.error.is_at_proxy), ("TotalTimeout", True))
            self.assertIn(PROXY, str(call.error))

    def test_a_total_timeout_without_a_proxy_is_the_origins_fault(self):
        self.network = Network()
        call = fetch(self.network.client(timeouts=Timeouts(total=3)), HTTP)
        self.network.advance(3.5)
        self.assertEqual((call.outcome, call.error.is_at_proxy), ("TotalTimeout", False))

    def test_tls_that_fails_before_the_proxy_is_the_proxys(self):
        secure = "https://192.0.2.9:3128"
        for url in (HTTP, HTTPS):
            call = fetch(self.client(secure), url)
            self.network.accept().answer(b"not tls at all")
            self.assertEqual(call.outcome, "ProxyFailed", url)
            self.assertIn(f"the proxy {secure} cannot be used: ", str(call.error))
            self.assertIn("TLS", str(call.error))
