"""Proxies and cookies, from options and the environment."""

import json

from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.certificates import make_certificates
from tests.integration.commands import CommandCase
from tests.integration.fetch_proxy import Proxy
from tests.integration.fetch_server import WebSite


NOWHERE = "http://example.invalid/page"
# What the machine's own environment says must not matter here.
_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
NONE = dict.fromkeys([*_NAMES, *map(str.upper, _NAMES)], "")


class Hello(Protocol):
    def dataReceived(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")


class Case(CommandCase):
    async def fetched(self, *words, status=0, **environment):
        """Return the rows of a run."""
        child = self.evserve(
            *("fetch", "--no-robots", "--retries", "0", "-o", "-", *words),
            env={**NONE, **environment},
        )
        self.assertEqual(await child.ended, status, child.err.decode())
        self.assertNotIn(b"Traceback", child.err)
        return [json.loads(line) for line in child.out.splitlines()]


class ProxyTests(Case):
    def setUp(self):
        super().setUp()
        self.proxy = Proxy(self)
        self.site = WebSite(self)
        self.site.answers["/"] = b"directly"

    async def test_the_option_names_a_proxy_and_a_password(self):
        (row,) = await self.fetched("--proxy", f"http://us%20er:pw@{self.proxy.place}", NOWHERE)
        self.assertEqual((row["status_code"], row["content_length"]), (200, 9))
        self.assertEqual(self.proxy.asked, [("GET", NOWHERE)])
        self.assertIn(b"\r\nProxy-Authorization: Basic dXMgZXI6cHc=\r\n", self.proxy.heads[0])

    async def test_the_environment_names_proxies(self):
        for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
            (row,) = await self.fetched(NOWHERE, **{name: self.proxy.place})
            self.assertEqual(row["content_length"], 9, name)
        self.assertEqual(self.proxy.asked, [("GET", NOWHERE)] * 3)

    async def test_the_option_wins_over_the_environment(self):
        (row,) = await self.fetched(
            *("--proxy", self.proxy.place, NOWHERE), http_proxy="http://127.0.0.1:1"
        )
        self.assertEqual(row["content_length"], 9)

    async def test_no_proxy_is_obeyed(self):
        url = self.site.url("/")
        for name in ("no_proxy", "NO_PROXY"):
            rows = await self.fetched(
                url, NOWHERE, http_proxy=self.proxy.place, **{name: "127.0.0.0/8, x.example"}
            )
            lengths = {row["url"]: row["content_length"] for row in rows}
            self.assertEqual(lengths, {url: 8, NOWHERE: 9})
        self.assertEqual(self.proxy.asked, [("GET", NOWHERE)] * 2)

    async def test_capitals_of_http_proxy_are_not_read(self):
        (row,) = await self.fetched(self.site.url("/"), HTTP_PROXY=self.proxy.place)
        self.assertEqual((row["content_length"], self.proxy.asked), (8, []))

    async def test_an_invalid_proxy_is_a_one_line_error(self):
        socks = "unsupported scheme socks5 (use http or https)"
        for given, why in (
            ("socks5://h:1", f"'socks5://h:1': {socks}"),
            ("foo", "'foo': it has neither a scheme nor a port: write http://host:port"),
            ("http://", "'http://': write http://host:port"),
            (
                "http://u:secret@h:99999",
                "'http://...@h:99999': its port is not a number from 1 to 65535",
            ),
        ):
            line = f"fetch: --proxy: cannot use the proxy {why}"
            await self.check_error(["fetch", "http://a/", "--proxy", given], line)
        child = self.evserve(
            "fetch", "http://a/", env={**NONE, "ALL_PROXY": "socks5://u:secret@x"}
        )
        self.assertEqual(await child.ended, 1)
        line = f"evserve: fetch: ALL_PROXY: cannot use the proxy 'socks5://...@x': {socks}\n"
        self.assertEqual((child.err.decode(), child.out), (line, b""))

    async def test_errors_of_a_config_file_do_not_show_the_password(self):
        self.write("e.toml", '[services.fetch]\nqueue = "memory:"\nproxy = "ftp://u:secret@x"\n')
        await self.check_error(
            ["--config", "e.toml"],
            "e.toml: [services.fetch] --proxy: cannot use the proxy 'ftp://...@x': "
            "unsupported scheme ftp (use http or https)",
        )

    async def test_a_proxy_that_requires_a_password_gets_it(self):
        self.proxy.wants = b"Basic dTpw"
        secret = NOWHERE.replace("http", "https")
        place = f"the proxy http://{self.proxy.place} answers 407 Who"
        for given, hint in (
            (self.proxy.place, "it requires a user name and a password"),
            (f"u:wrong@{self.proxy.place}", "wrong user name or password"),
        ):
            for url in (NOWHERE, secret):
                (row,) = await self.fetched("--proxy", given, url, status=1)
                self.assertEqual(row["error"], f"ProxyFailed: {place}: {hint}")
        (row,) = await self.fetched("--proxy", f"u:p@{self.proxy.place}", NOWHERE)
        self.assertEqual(row["content_length"], 9)

    async def test_a_proxy_that_is_down_is_a_named_error(self):
        (row,) = await self.fetched("--proxy", "127.0.0.1:1", NOWHERE, status=1)
        self.assertEqual(
            row["error"],
            "ProxyUnreachable: the proxy cannot be used: http://127.0.0.1:1 refuses connections",
        )


class TunnelTests(Case):
    def setUp(self):
        super().setUp()
        self.proxy = Proxy(self)

    async def serve(self):
        from twisted.internet import reactor

        certificates = make_certificates()
        (self.folder / "ca.pem").write_bytes(certificates.authority_pem)
        endpoint = SSL4ServerEndpoint(
            reactor, 0, certificates.server_options(), interface="127.0.0.1"
        )
        port = await endpoint.listen(Factory.forProtocol(Hello))
        self.addCleanup(port.stopListening)
        return port.getHost().port

    async def test_https_is_encrypted_through_a_tunnel(self):
        port = await self.serve()
        url = f"https://localhost:{port}/x"
        for words, environment in (
            (["--proxy", f"u:p@{self.proxy.place}"], {}),
            ([], {"https_proxy": f"http://u:p@{self.proxy.place}"}),
            ([], {"HTTPS_PROXY": f"http://u:p@{self.proxy.place}"}),
        ):
            (row,) = await self.fetched(*words, url, SSL_CERT_FILE="ca.pem", **environment)
            self.assertEqual((row["error"], row["content_length"]), (None, 6))
        self.assertEqual(self.proxy.asked, [("CONNECT", f"localhost:{port}")] * 3)
        self.assertIn(b"\r\nProxy-Authorization: Basic dTpw\r\n", self.proxy.heads[0])
        self.assertNotIn(b"GET", b"".join(self.proxy.heads))

    async def test_an_untrusted_certificate_is_refused_in_a_tunnel_too(self):
        port = await self.serve()
        url = f"https://localhost:{port}/"
        (row,) = await self.fetched("--proxy", self.proxy.place, url, status=1)
        self.assertIn("TLSFailed", row["error"])


class CookieTests(Case):
    def setUp(self):
        super().setUp()
        self.site = WebSite(self)

        def log_in(request):
            request.addCookie(b"sid", b"42", path=b"/")
            return request.redirect(b"/home") or b""

        self.site.answers["/login"] = log_in
        self.site.answers["/home"] = b"home"

    def cookies(self):
        return [request.getHeader("cookie") for request in self.site.requests]

    async def test_cookies_are_kept_with_the_option(self):
        url = self.site.url("/login")
        await self.fetched("--cookies", url)
        await self.fetched(url)
        self.assertEqual(self.cookies(), [None, "sid=42", None, None])
