"""URLs are read as by browsers."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evserve.http.errors import BadURL
from evserve.http.url import Origin, parse_location, parse_url


PAGE = "http://user:pass@example.com/a/b?c#d"
ERROR = None

# What is parsed, and the whole URL as browsers see it, user name and fragment included.
ABSOLUTE = {
    # Schemes, slashes, blanks
    "http://example.com": "http://example.com/",
    "HTTP://Example.COM:80/A": "http://example.com/A",
    "hTTps://example.com:80/": "https://example.com:80/",
    "http:example.com/a": "http://example.com/a",
    "http:/example.com/a": "http://example.com/a",
    "http:////example.com/a": "http://example.com/a",
    "http:\\\\example.com\\a\\b?c\\d#e\\f": "http://example.com/a/b?c\\d#e\\f",
    "http:\\/example.com": "http://example.com/",
    "  http://example.com/a b\n": "http://example.com/a%20b",
    "\x00\x1fhttp://example.com/\x1b": "http://example.com/",
    "ht\ntp\r:/\t/exa\tmple.com/\nx?\ty#\nz": "http://example.com/x?y#z",
    "http://example.com/\x0b\x7f": "http://example.com/%0B%7F",
    "http://exa mple.com/": ERROR,
    "http://example.com\x0b/": ERROR,
    "http://\x00a/": ERROR,
    # Ports
    "http://example.com:/": "http://example.com/",
    "http://example.com:0080/": "http://example.com/",
    "http://example.com:00000000000000081/": "http://example.com:81/",
    "https://example.com:443": "https://example.com/",
    "https://example.com:8443": "https://example.com:8443/",
    "http://example.com:0/": "http://example.com:0/",
    "http://example.com:65535/": "http://example.com:65535/",
    "http://example.com:65536/": ERROR,
    f"http://example.com:{'9' * 5000}/": ERROR,
    "http://example.com:-1/": ERROR,
    "http://example.com:8 0/": ERROR,
    "http://example.com:\uff18\uff10/": ERROR,  # full-width digits
    "http://example.com:80:80/": ERROR,
    # User names and passwords
    "http://user:pass@example.com/": "http://user:pass@example.com/",
    "http://@example.com/": "http://example.com/",
    "http://:@example.com/": "http://example.com/",
    "http://a:b@c:d@example.com:81/": "http://a:b%40c%3Ad@example.com:81/",
    "http://a:b:c@example.com/": "http://a:b%3Ac@example.com/",
    "http://:p@example.com/": "http://:p@example.com/",
    "http://u:%zz@example.com/": "http://u:%25zz@example.com/",
    "http://u@": ERROR,
    "http://u:p@/x": ERROR,
    "http://user@example.com\\@evil.example/": "http://user:@example.com/@evil.example/",
    "http://example.com/@evil.example": "http://example.com/@evil.example",
    "http://example.com?@evil.example": "http://example.com/?@evil.example",
    "http://example.com#@evil.example": "http://example.com/#@evil.example",
    # Paths
    "http://example.com/a/./b/../c": "http://example.com/a/c",
    "http://example.com/../../a/..": "http://example.com/",
    "http://example.com/a/%2E%2e/b/%2e": "http://example.com/b/",
    "http://example.com/a/.%2e/b/%2E./c": "http://example.com/c",
    "http://example.com/.a/..b/...": "http://example.com/.a/..b/...",
    "http://example.com//a///b//..//c": "http://example.com//a///b//c",
    "http://example.com/a%2Fb%5c../c": "http://example.com/a%2Fb%5c../c",
    "http://example.com/a\\..\\b": "http://example.com/b",
    "http://example.com/%2x/100%": "http://example.com/%2x/100%",
    "http://example.com/[a]|'": "http://example.com/[a]|'",
    'http://example.com/<"{}`^>': "http://example.com/%3C%22%7B%7D%60%5E%3E",
    "http://example.com/\xe4/\U0001f600": "http://example.com/%C3%A4/%F0%9F%98%80",
    "http://example.com/%C3%A4%e4": "http://example.com/%C3%A4%e4",
    "http://example.com/C|/../x": "http://example.com/x",
    # Queries and fragments
    "http://example.com?q": "http://example.com/?q",
    "http://example.com/?": "http://example.com/?",
    "http://example.com/#": "http://example.com/#",
    "http://example.com?#": "http://example.com/?#",
    "http://example.com/?a?b#c#d?e": "http://example.com/?a?b#c#d?e",
    "http://example.com/?/../.": "http://example.com/?/../.",
    "http://example.com/?<'\"`{}|^>": "http://example.com/?%3C%27%22`{}|^%3E",
    "http://example.com/#<'\"`{}|^>": "http://example.com/#%3C'%22%60{}|^%3E",
    "http://example.com/?\xf6= \xfc&%zz": "http://example.com/?%C3%B6=%20%C3%BC&%zz",
    "http://example.com/# \xf6": "http://example.com/#%20%C3%B6",
    # Names: UTS 46, non-transitional
    "http://B\xfccher.example/": "http://xn--bcher-kva.example/",
    "http://bu\u0308cher.example/": "http://xn--bcher-kva.example/",
    "http://B%C3%BCcher.example/": "http://xn--bcher-kva.example/",
    "http://%62%43.example/": "http://bc.example/",
    "http://fa\xdf.example/": "http://xn--fa-hia.example/",
    "http://FA\u1e9e.example/": "http://xn--fa-hia.example/",
    "http://\u0392\u039f\u039b\u039f\u03a3.example/": "http://xn--nxaslbu.example/",  # ends in Σ
    "http://\u03b2\u03bf\u03bb\u03bf\u03c2.example/": "http://xn--nxaslbp.example/",  # in ς
    "http://\u0392\u039f\u039b\u039f\u03a3/": "http://xn--nxaslbu/",
    "http://I\u0307.example/": "http://xn--i-9bb.example/",  # a Turkish capital
    "http://\u212ael.example/": "http://kel.example/",  # the sign for kelvin
    "http://\uff25x\uff0e\u3002example/": ERROR,  # an empty label
    "http://\uff25x\uff0eexample\u3002/": "http://ex.example./",
    "http://a\xadb.example/": "http://ab.example/",  # a soft hyphen
    "http://\xad/": ERROR,
    "http://\u0dc1\u0dca\u200d\u0dbb\u0dd3.example/": "http://xn--10cl1a0b660p.example/",  # ZWJ
    "http://a\u200db.example/": ERROR,  # ZWJ that joins nothing
    "http://\u2603.example/": "http://xn--n3h.example/",  # not in IDNA 2008
    "http://\u2260.example/": "http://xn--1ch.example/",
    "http://a_b.\xfc.example/": "http://a_b.xn--tda.example/",
    "http://-a-.a--b.\xfc.example/": "http://-a-.a--b.xn--tda.example/",
    "http://XN--BCHER-KVA.example/": "http://xn--bcher-kva.example/",
    "http://xn--a.example/": "http://xn--a.example/",  # no punycode, but ASCII is not checked
    "http://xn--a.\xfc.example/": ERROR,
    "http://\u05d0a.example/": ERROR,  # from right to left, and from left to right
    "http://\ufffd.example/": ERROR,
    "http://a.example./": "http://a.example./",
    "http://a..example/": ERROR,
    "http://.example/": ERROR,
    "http://example../": ERROR,
    f"http://{'a' * 63}.example/": f"http://{'a' * 63}.example/",
    f"http://{'a' * 64}.example/": ERROR,
    f"http://{chr(0xFC) * 60}.example/": ERROR,  # longer than that in ASCII
    f"http://{'a.' * 127}com/": ERROR,
    "http://a%00b/": ERROR,
    "http://a%2Fb/": ERROR,
    "http://a%40b/": ERROR,
    "http://a%3A80/": ERROR,
    "http://a%25b/": ERROR,
    "http://a%b/": ERROR,
    "http://%ff/": ERROR,
    "http://a<b/": ERROR,
    "http://a^b/": ERROR,
    "http://a|b/": ERROR,
    # IPv4 addresses
    "http://127.1/": "http://127.0.0.1/",
    "http://2130706433/": "http://127.0.0.1/",
    "http://0x7f.0.0.1/": "http://127.0.0.1/",
    "http://0X7F.0x/": "http://127.0.0.0/",
    "http://0177.0.1/": "http://127.0.0.1/",
    "http://0/": "http://0.0.0.0/",
    "http://1.2.3.4./": "http://1.2.3.4/",
    "http://\uff11\uff12\uff17\u3002\uff11/": "http://127.0.0.1/",  # full-width digits
    "http://%31%32%37.1/": "http://127.0.0.1/",
    "http://\u2460.1/": "http://1.0.0.1/",  # a one in a circle
    "http://256.1.1.1/": ERROR,
    "http://1.2.3.256/": ERROR,
    "http://1.2.65536/": ERROR,
    "http://4294967296/": ERROR,
    "http://1.2.3.4.5/": ERROR,
    "http://1..2/": ERROR,
    "http://08.1/": ERROR,
    "http://0xg.1/": ERROR,
    "http://x.1/": ERROR,
    "http://x.0x1/": ERROR,
    "http://1.2.3.4../": ERROR,
    "http://1.x/": "http://1.x/",
    # IPv6 addresses
    "http://[::1]:8080/x": "http://[::1]:8080/x",
    "http://[::1]:80": "http://[::1]/",
    "http://[0:0::0:1]": "http://[::1]/",
    "http://[1:0:0::1.2.3.4]/": "http://[1::102:304]/",
    "http://[::FFFF:127.0.0.1]/": "http://[::ffff:7f00:1]/",
    "http://[1:0:0:2:0:0:0:3]/": "http://[1:0:0:2::3]/",
    "http://[1:2:3:4:5:6:7:0]/": "http://[1:2:3:4:5:6:7:0]/",
    "http://u:p@[::1]/": "http://u:p@[::1]/",
    "http://[::1/": ERROR,
    "http://::1/": ERROR,
    "http://[::g]/": ERROR,
    "http://[1:2:3:4:5:6:7:8:9]/": ERROR,
    "http://[::1]x/": ERROR,
    "http://[::1]:x/": ERROR,
    "http://[::1%25eth0]/": ERROR,
    "http://[fe80::1%eth0]/": ERROR,
    "http://[]/": ERROR,
    "http://[127.0.0.1]/": ERROR,
    # No URLs
    "": ERROR,
    "http": ERROR,
    "http:": ERROR,
    "http://": ERROR,
    "http:///?": ERROR,
    "http://?x": ERROR,
    "http://#": ERROR,
    "example.com": ERROR,
    "//example.com/": ERROR,
    "/a": ERROR,
    # Schemes that are none of ours
    "ftp://example.com/": ERROR,
    "ws://example.com/": ERROR,
    "javascript:alert(1)": ERROR,
    "data:,x": ERROR,
    "file:///etc/passwd": ERROR,
    "view-source:http://example.com/": ERROR,
    "httpx://example.com/": ERROR,
    # Half of a surrogate pair
    "http://example.com/\ud800": ERROR,
    "http://\ud800/": ERROR,
    "http://\udc80.com/": ERROR,
}

# What is found on PAGE, and where it leads.
RELATIVE = {
    "": "http://user:pass@example.com/a/b?c",
    " \t\n": "http://user:pass@example.com/a/b?c",
    "#": "http://user:pass@example.com/a/b?c#",
    "#x y": "http://user:pass@example.com/a/b?c#x%20y",
    "?": "http://user:pass@example.com/a/b?",
    "?y": "http://user:pass@example.com/a/b?y",
    ".": "http://user:pass@example.com/a/",
    "..": "http://user:pass@example.com/",
    "../../..": "http://user:pass@example.com/",
    "e": "http://user:pass@example.com/a/e",
    "./e/": "http://user:pass@example.com/a/e/",
    "../e f": "http://user:pass@example.com/e%20f",
    "%2e%2E/e": "http://user:pass@example.com/e",
    "/e\\f?g": "http://user:pass@example.com/e/f?g",
    "\\e": "http://user:pass@example.com/e",
    "/.//e": "http://user:pass@example.com//e",
    ":80": "http://user:pass@example.com/a/:80",
    "e:f": ERROR,
    "./e:f": "http://user:pass@example.com/a/e:f",
    "1:f": "http://user:pass@example.com/a/1:f",
    "@other.example/": "http://user:pass@example.com/a/@other.example/",
    # The page's own scheme without two slashes is relative.
    "http:": "http://user:pass@example.com/a/b?c",
    "http:e": "http://user:pass@example.com/a/e",
    "http:/e": "http://user:pass@example.com/e",
    "HTTP:\\e": "http://user:pass@example.com/e",
    "http:?y": "http://user:pass@example.com/a/b?y",
    "http:#y": "http://user:pass@example.com/a/b?c#y",
    "http://e": "http://e/",
    "http:\\\\e": "http://e/",
    "http:/\\e": "http://e/",
    # Any other scheme is absolute.
    "https:e": "https://e/",
    "https:/e": "https://e/",
    "https:": ERROR,
    "https:\\\\other/x": "https://other/x",
    "HTTPS://Other/\xe4": "https://other/%C3%A4",
    "//other/x": "http://other/x",
    "///other/x": "http://other/x",
    "\\\\other\\x": "http://other/x",
    "/\t/other": "http://other/",
    "//u@other:81": "http://u:@other:81/",
    "//": ERROR,
    "//?": ERROR,
    "//a b/": ERROR,
    "//other:x/": ERROR,
    "mailto:me@example.com": ERROR,
    "localhost:80": ERROR,
    "javascript:void(0)": ERROR,
    "/\ud800": ERROR,
}


def whole(url):
    """Return `url` with its credentials and its fragment."""
    return url.identity if url.fragment is None else f"{url.identity}#{url.fragment}"


class ParseTests(SynchronousTestCase):
    def test_odd_urls_are_parsed_as_browsers_do(self):
        for text, expected in ABSOLUTE.items():
            if expected is ERROR:
                self.assertRaises(BadURL, parse_url, text)
            else:
                self.assertEqual(whole(parse_url(text)), expected, ascii(text))

    def test_what_was_parsed_is_parsed_the_same_again(self):
        for expected in filter(None, ABSOLUTE.values()):
            self.assertEqual(whole(parse_url(expected)), expected)

    def test_a_reason_names_what_is_wrong(self):
        for text, reason in {
            "http://exa mple.com:80/": "'exa mple.com' is not a host name or an address",
            "http://[::g]/": "'[::g]' is not a host name or an address",
            "http://a..b/": "'a..b' is not a host name: a part of it is empty or too long",
            "http://a:65536/": "port 65536 is above 65535",
            "http://a:b/": "the port after 'a' is not a number",
            "http://a/\ud800": "the URL contains a lone surrogate",
        }.items():
            self.assertEqual(str(self.assertRaises(BadURL, parse_url, text)), reason)

    def test_a_url_without_a_scheme_gets_a_hint(self):
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
            f"http://{long}\u2603\x80/",
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

    def test_control_characters_in_a_password_are_refused(self):
        for text in ("http://u:x%0d%0ay@a/", "http://u:x%7fy@a/", "http://x\x01:y@a/"):
            error = self.assertRaises(BadURL, parse_url, text)
            self.assertIn("contains a control character", str(error))

    def test_a_reason_shows_no_password(self):
        for text in (
            "http://u:secret%0d@a/",
            "http://u:secret\ud800@a/",
            "http://u:secret@a b/",
            "http://u:secret@/",
            "http://u:secret/@a/",
            "ftp://u:secret@a/",
            "u:secret@a/",
            "u@secret@a/",
            "//u:secret@a/",
        ):
            self.assertNotIn("secret", str(self.assertRaises(BadURL, parse_url, text)), text)

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
            self.assertEqual(whole(parse_url(whole(url))), whole(url))
            self.assertTrue(whole(url).isascii())


class JoinTests(SynchronousTestCase):
    def test_references_lead_where_browsers_go(self):
        page = parse_url(PAGE)
        for reference, expected in RELATIVE.items():
            if expected is ERROR:
                self.assertRaises(BadURL, page.join, reference)
            else:
                self.assertEqual(whole(page.join(reference)), expected, ascii(reference))

    def test_the_scheme_of_a_page_decides_what_is_relative(self):
        page = parse_url("https://[::1]:81/a/b")
        for reference, expected in {
            "https:/x": "https://[::1]:81/x",
            "http:/x": "http://x/",
            "//y": "https://y/",
        }.items():
            self.assertEqual(str(page.join(reference)), expected)

    def test_a_reference_is_no_longer_than_a_url(self):
        error = self.assertRaises(BadURL, parse_url(PAGE).join, "x" * 70_000)
        self.assertEqual(str(error), "longer than 65536 characters")

    def test_a_location_keeps_bytes_that_are_not_utf8(self):
        base = parse_url(PAGE)
        self.assertEqual(parse_location(base, b"/\xe4 \xc3\xa4?\xff").target, "/%E4%20%C3%A4?%FF")
        self.assertRaises(BadURL, parse_location, base, b"http://\xff/")
        self.assertRaises(BadURL, base.join, "/\ud800")
        self.assertEqual(parse_location(base, b"/#\xff").fragment, "%FF")

    def test_a_location_inherits_the_fragment_it_does_not_name(self):
        base = parse_url(PAGE)
        self.assertEqual(parse_location(base, b"/x").fragment, "d")
        self.assertEqual(parse_location(base, b"/x#y").fragment, "y")
        self.assertEqual(parse_location(base, b"/x#").fragment, "")
