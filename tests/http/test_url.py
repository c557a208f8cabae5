"""URLs are read as by browsers."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.http.errors import BadURL
from evserve.http.url import Origin, parse_location, parse_url


AS_BROWSERS_DO = {
    "http://example.com": "http://example.com/",
    "HTTP://Example.COM:80/A": "http://example.com/A",
    "https://example.com:443/": "https://example.com/",
    "https://example.com:8443": "https://example.com:8443/",
    "http://example.com:/": "http://example.com/",
    "http://example.com:0080/": "http://example.com/",
    "http://example.com:0/": "http://example.com:0/",
    "  http://example.com/a b\n": "http://example.com/a%20b",
    "http://exa\tmple.com/\nx": "http://example.com/x",
    "http:\\\\example.com\\a\\b?c\\d": "http://example.com/a/b?c\\d",
    "http:example.com/a": "http://example.com/a",
    "http:////example.com/a": "http://example.com/a",
    "http://example.com?q": "http://example.com/?q",
    "http://example.com/?": "http://example.com/?",
    "http://example.com#top": "http://example.com/",
    "http://example.com/a/./b/../c": "http://example.com/a/c",
    "http://example.com/../../a/..": "http://example.com/",
    "http://example.com/a/%2E%2e/b/%2e": "http://example.com/b/",
    "http://example.com/.a/..b": "http://example.com/.a/..b",
    "http://example.com/%2x/100%": "http://example.com/%2x/100%",
    'http://example.com/<"{}`^#>?<\'"`{}|^>': "http://example.com/%3C%22%7B%7D%60%5E",
    "http://example.com/?<'\"`{}|^>": "http://example.com/?%3C%27%22`{}|^%3E",
    "http://example.com/[a]|'": "http://example.com/[a]|'",
    "http://example.com/ä?ö=ü": "http://example.com/%C3%A4?%C3%B6=%C3%BC",
    "http://Bücher.example/": "http://xn--bcher-kva.example/",
    "http://faß.de/": "http://xn--fa-hia.de/",
    "http://b%C3%BCcher.example/": "http://xn--bcher-kva.example/",
    "http://a_b.example./": "http://a_b.example./",
    "http://a_b.ü.example/": "http://a_b.xn--tda.example/",
    "http://☃.example/": "http://xn--n3h.example/",
    "http://127.1/": "http://127.0.0.1/",
    "http://2130706433/": "http://127.0.0.1/",
    "http://0x7f.0.0.1/": "http://127.0.0.1/",
    "http://0X7F.0x/": "http://127.0.0.0/",
    "http://0177.0.1/": "http://127.0.0.1/",
    "http://1.2.3.4./": "http://1.2.3.4/",
    "http://[::1]:8080/x": "http://[::1]:8080/x",
    "http://[0:0::0:1]": "http://[::1]/",
    "http://[1:0:0::1.2.3.4]/": "http://[1::102:304]/",
    "http://user:pass@example.com/": "http://example.com/",
}

NO_URLS = (
    "",
    "example.com",
    "//example.com/",
    "ftp://example.com/",
    "javascript:alert(1)",
    "http://",
    "http:///?",
    "http://a b/",
    "http://a<b/",
    "http://a..b/",
    f"http://{'a' * 64}.com/",
    f"http://{'a.' * 127}com/",
    "http://example.com:99999/",
    "http://example.com:port/",
    "http://1.2.3.4.5/",
    "http://256.1.1.1/",
    "http://1.2.3.256/",
    "http://4294967296/",
    "http://x.1/",
    "http://08.1/",
    "http://[::1/",
    "http://[::g]/",
    "http://[fe80::1%25eth0]/",
    "http://%ff/",
    "http://\ufffd\u0301\u202e/",
    "http://example.com/\ud800",
    "http://\udc80.com/",
)

BASE = "http://example.com/a/b?c#d"
JOINED = {
    "": "/a/b?c",
    "#x": "/a/b?c",
    "?y": "/a/b?y",
    "e": "/a/e",
    "../e f": "/e%20f",
    "/e\\f?g": "/e/f?g",
    "http:e": "/a/e",
}


class ParseTests(SynchronousTestCase):
    def test_odd_urls_are_parsed_as_browsers_do(self):
        for text, expected in AS_BROWSERS_DO.items():
            self.assertEqual(str(parse_url(text)), expected, text)

    def test_an_invalid_url_is_refused_with_its_text_and_the_reason(self):
        for text in NO_URLS:
            self.assertRaises(BadURL, parse_url, text)
        error = self.assertRaises(BadURL, parse_url, "example.com/x")
        self.assertIn("did you mean http://example.com/x", str(error))
        error = self.assertRaises(BadURL, parse_url, "localhost:8000/x")
        self.assertIn("did you mean http://localhost:8000/x", str(error))
        self.assertEqual(str(self.assertRaises(BadURL, parse_url, " ")), "the URL is empty")
        error = self.assertRaises(BadURL, parse_url, "tel:12345")
        self.assertIn("unsupported scheme tel", str(error))

    def test_a_known_scheme_is_not_taken_for_a_host(self):
        self.assertEqual(str(parse_url("http:80")), "http://0.0.0.80/")
        error = self.assertRaises(BadURL, parse_url, "http.example:80")
        self.assertIn("did you mean http://http.example:80", str(error))

    def test_a_reason_is_short_however_long_the_text_is(self):
        long = "x" * 60_000
        for text in (
            long,
            f"{long}:y",
            f"http://{long}/",
            f"http://{long}☃\x80/",
            f"http://[{long}]/",
            f"http://a:{long}",
        ):
            self.assertLess(len(str(self.assertRaises(BadURL, parse_url, text))), 600)

    def test_the_identity_contains_the_credentials(self):
        table = {
            "http://a:80/x#y": "http://a/x",
            "HTTP://u@A/x": "http://u:@a/x",
            "http://u:@a/x": "http://u:@a/x",
            "http://u%40:p:%e4%2F@a:8/x?y": "http://u%40:p%3A%E4%2F@a:8/x?y",
        }
        for text, identity in table.items():
            self.assertEqual(parse_url(text).identity, identity)

    def test_fragment_and_credentials_are_kept_apart(self):
        url = parse_url("http://u%40x:p:w@example.com/#a b")
        self.assertEqual((url.fragment, url.credentials), ("a%20b", ("u@x", "p:w")))
        self.assertEqual(parse_url("http://u@example.com").credentials, ("u", ""))

    def test_an_invalid_password_is_refused_and_not_shown(self):
        for text in (
            "http://u:se%0d%0acret@a/",
            "http://u:se%7fcret@a/",
            "http://u:se\ud800cret@a/",
        ):
            error = self.assertRaises(BadURL, parse_url, text)
            self.assertTrue(str(error).startswith("the user name or password contains "))

    def test_the_authority_is_the_value_of_the_host_header(self):
        for text, authority in {
            "http://[::1]/": "[::1]",
            "https://[::1]:80/": "[::1]:80",
            "https://a/": "a",
        }.items():
            self.assertEqual(parse_url(text).origin.authority, authority)
        self.assertEqual(Origin("http", "a", 80), parse_url("http://A:80/").origin)
        self.assertTrue(parse_url("https://a/").origin.is_tls)

    @given(st.text())
    def test_any_text_is_a_url_or_a_named_error(self, text):
        for candidate in (text, f"http://{text}", f"http://example.com/{text}"):
            try:
                url = parse_url(candidate)
            except BadURL:
                continue
            self.assertEqual(parse_url(str(url)).target, url.target)
            self.assertTrue(str(url).isascii())


class JoinTests(SynchronousTestCase):
    def test_references_are_resolved_against_the_page(self):
        for reference, target in JOINED.items():
            url = parse_url(BASE).join(reference)
            self.assertEqual(str(url), f"http://example.com{target}", reference)

    def test_references_may_lead_elsewhere(self):
        base = parse_url(BASE)
        for reference, expected in {
            "//other/x": "http://other/x",
            "\\\\other\\x": "http://other/x",
            "https:\\\\other/x": "https://other/x",
            "HTTPS://Other/ä": "https://other/%C3%A4",
        }.items():
            self.assertEqual(str(base.join(reference)), expected)
        self.assertRaises(BadURL, base.join, "mailto:me@example.com")

    def test_a_location_keeps_bytes_that_are_not_utf8(self):
        base = parse_url(BASE)
        self.assertEqual(parse_location(base, b"/\xe4 \xc3\xa4?\xff").target, "/%E4%20%C3%A4?%FF")
        self.assertRaises(BadURL, parse_location, base, b"http://\xff/")
        self.assertRaises(BadURL, base.join, "/\ud800")
        self.assertEqual(parse_location(base, b"/#\xff").fragment, "%FF")

    def test_a_location_inherits_the_fragment_it_does_not_name(self):
        base = parse_url(BASE)
        self.assertEqual(parse_location(base, b"/x").fragment, "d")
        self.assertEqual(parse_location(base, b"/x#y").fragment, "y")
