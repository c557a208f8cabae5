"""Cookies: RFC 6265 and its revision, rfc6265bis."""

from collections import OrderedDict
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from evserve.http import cookies as module
from evserve.http.cookies import Cookies, parse_date
from evserve.http.headers import Head, Headers
from evserve.http.url import parse_url


NOW = 1_800_000_000.0  # 15 January 2027, 08:00:00
PAGE = "http://www.example.com/a/b/c?d/e"
SECURE = PAGE.replace("http:", "https:")
NOTHING = None

# A Set-Cookie header of PAGE, and the Cookie header of the next request to PAGE.
LINES = {
    # Names and values
    "a=1": "a=1",
    " \t a \t = 1 2 ;": "a=1 2",
    "a=1;b=2": "a=1",
    "a=b=c": "a=b=c",
    "a=": "a=",
    'a="1; b"': 'a="1',
    'a="1"': 'a="1"',
    "a=1,b=2": "a=1,b=2",
    "a": "a",
    "=a": "a",
    "=a=b": "a=b",
    "": NOTHING,
    "=": NOTHING,
    " ; a=1": NOTHING,
    "a=\tb\tc": "a=b\tc",
    "a=\xe4\xff": "a=\xe4\xff",
    "a=1\x00": NOTHING,
    "a=1\x7f2": NOTHING,
    "a\n=1": NOTHING,
    "a=1; x\x01": NOTHING,
    f"a={'x' * 4095}": f"a={'x' * 4095}",
    f"a={'x' * 4096}": NOTHING,
    # Attributes
    "a=1; ; = ; x=y; HTTPOnly; samesite=Strict; Partitioned; Priority=High": "a=1",
    "a=1;PATH=/a;domain=EXAMPLE.COM": "a=1",
    "a=1; Secure": NOTHING,
    "a=1; secure=false": NOTHING,
    # Paths
    "a=1; Path=/": "a=1",
    "a=1; Path=/a": "a=1",
    "a=1; Path=/a/": "a=1",
    "a=1; Path=/a/b/c": "a=1",
    "a=1; Path=/a/b/c/": NOTHING,
    "a=1; Path=/a/b/c?d": NOTHING,
    "a=1; Path=/a/b/cc": NOTHING,
    "a=1; Path=/A": NOTHING,
    "a=1; Path=/x": NOTHING,
    "a=1; Path=/x; Path=/": "a=1",
    "a=1; Path=/; Path=/x": NOTHING,
    "a=1; Path=/x; Path=": "a=1",
    "a=1; Path=x": "a=1",
    'a=1; Path="/x"': "a=1",
    f"a=1; Path=/{'x' * 1024}": "a=1",  # too long to count
    # Domains
    "a=1; Domain=www.example.com": "a=1",
    "a=1; Domain=.www.example.com": "a=1",
    "a=1; Domain=.example.com": "a=1",
    "a=1; Domain=..example.com": NOTHING,
    "a=1; Domain=": "a=1",
    "a=1; Domain=.": "a=1",
    "a=1; Domain=x; Domain=": "a=1",
    "a=1; Domain=example.com; Domain=example.org": NOTHING,
    "a=1; Domain=example.org": NOTHING,
    "a=1; Domain=ample.com": NOTHING,
    "a=1; Domain=w.www.example.com": NOTHING,
    "a=1; Domain=www.example.com.": NOTHING,
    "a=1; Domain=www.example.com:80": NOTHING,
    "a=1; Domain=com": NOTHING,
    "a=1; Domain=.com": NOTHING,
    "a=1; Domain=ex\xe4mple.com": NOTHING,
    f"a=1; Domain={'x' * 1025}": "a=1",  # too long to count
    # Times
    "a=1; Max-Age=1": "a=1",
    "a=1; Max-Age=0": NOTHING,
    "a=1; Max-Age=-1": NOTHING,
    "a=1; Max-Age=+1; Expires=Fri, 15 Jan 2027 07:59:59 GMT": NOTHING,
    "a=1; Max-Age=1.5": "a=1",
    "a=1; Max-Age=": "a=1",
    "a=1; Max-Age=0; Max-Age=x": NOTHING,
    f"a=1; Max-Age={'9' * 1000}": "a=1",
    "a=1; Expires=Fri, 15 Jan 2027 08:00:01 GMT": "a=1",
    "a=1; Expires=Fri, 15 Jan 2027 08:00:00 GMT": NOTHING,
    "a=1; Expires=Thu, 01-Jan-70 00:00:00 GMT": NOTHING,
    "a=1; Expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=1": "a=1",
    "a=1; Max-Age=0; Expires=Fri, 15 Jan 2037 08:00:00 GMT": NOTHING,
    "a=1; Expires=0": "a=1",
    "a=1; Expires=soon": "a=1",
    # Names that promise something
    "__Secure-a=1": NOTHING,
    "__Host-a=1; Path=/": NOTHING,
    "__secure-a=1": NOTHING,
    "=__Secure-a=1": NOTHING,
    "__Host-a": NOTHING,
}

# Likewise over https.
SECURE_LINES = {
    "a=1; Secure": "a=1",
    "a=1; SECURE=": "a=1",
    "__Secure-a=1; Secure": "__Secure-a=1",
    "__SECURE-a=1; Secure; Domain=example.com": "__SECURE-a=1",
    "__Secure-a=1": NOTHING,
    "__Host-a=1; Secure; Path=/": "__Host-a=1",
    "__host-a=1; Secure; Path=/; Domain=": "__host-a=1",
    "__Host-a=1; Path=/": NOTHING,
    "__Host-a=1; Secure": NOTHING,
    "__Host-a=1; Secure; Path=/a": NOTHING,
    "__Host-a=1; Secure; Path=/; Domain=www.example.com": NOTHING,
    "__Host-a; Secure; Path=/": NOTHING,
}

# Where a cookie is set, with which attributes, which request follows, and whether it is sent.
PLACES = (
    # Only to the host, unless a domain is named
    ("http://example.com/", "", "http://example.com/x", True),
    ("http://example.com/", "", "http://www.example.com/", False),
    ("http://example.com/", "Domain=example.com", "http://a.b.example.com/", True),
    ("http://www.example.com/", "Domain=example.com", "http://example.com/", True),
    ("http://www.example.com/", "Domain=example.com", "http://notexample.com/", False),
    ("http://www.example.com/", "", "http://example.com/", False),
    # Not bound to ports, nor to the scheme
    ("http://example.com/", "", "http://example.com:8080/", True),
    ("http://example.com/", "", "https://example.com/", True),
    ("https://example.com/", "", "http://example.com/", True),
    ("https://example.com/", "Secure", "http://example.com/", False),
    ("https://example.com/", "Secure", "https://example.com:444/", True),
    ("http://localhost/", "Secure", "http://localhost/", False),
    # The default path
    ("http://example.com/a/b", "", "http://example.com/a/x", True),
    ("http://example.com/a/b", "", "http://example.com/a", True),
    ("http://example.com/a/b", "", "http://example.com/ab", False),
    ("http://example.com/a/b", "", "http://example.com/", False),
    ("http://example.com/a?/b/c", "", "http://example.com/", True),
    ("http://example.com/a/", "", "http://example.com/a", True),
    ("http://example.com/%C3%A4/b", "", "http://example.com/\xe4/", True),
    # Public suffixes, the private section included
    ("http://a.co.uk/", "Domain=co.uk", "http://b.co.uk/", False),
    ("http://a.co.uk/", "Domain=co.uk", "http://a.co.uk/", False),
    ("http://a.co.uk/", "Domain=uk", "http://a.co.uk/", False),
    ("http://a.b.co.uk/", "Domain=b.co.uk", "http://c.b.co.uk/", True),
    ("http://a.github.io/", "Domain=github.io", "http://b.github.io/", False),
    ("http://github.io/", "Domain=github.io", "http://github.io/", True),
    ("http://github.io/", "Domain=github.io", "http://a.github.io/", False),
    ("http://a.b.ck/", "Domain=b.ck", "http://c.b.ck/", False),  # *.ck
    ("http://a.www.ck/", "Domain=www.ck", "http://b.www.ck/", True),  # !www.ck
    ("http://a.xn--55qx5d.cn/", "Domain=xn--55qx5d.cn", "http://b.xn--55qx5d.cn/", False),
    ("http://a.\u516c\u53f8.cn/", "Domain=a.xn--55qx5d.cn", "http://b.a.xn--55qx5d.cn/", True),
    ("http://a.com./", "Domain=com.", "http://b.com./", False),
    # Names without a dot are public suffixes, so that a cookie is for the host only
    ("http://localhost:8000/", "Domain=localhost", "http://localhost:9000/", True),
    ("http://localhost/", "Domain=.localhost", "http://localhost/", True),
    ("http://localhost/", "Domain=localhost", "http://a.localhost/", False),
    ("http://a.localhost/", "Domain=localhost", "http://localhost/", False),
    ("http://a.internal/", "Domain=internal", "http://b.internal/", False),
    ("http://a.b.internal/", "Domain=b.internal", "http://c.b.internal/", True),
    # Addresses
    ("http://192.0.2.1/", "", "http://192.0.2.1/", True),
    ("http://192.0.2.1/", "Domain=192.0.2.1", "http://192.0.2.1:81/", True),
    ("http://192.0.2.1/", "Domain=0.2.1", "http://192.0.2.1/", False),
    ("http://192.0.2.1/", "Domain=2.1", "http://10.1.2.1/", False),
    ("http://192.0.2.1/", "Domain=1", "http://192.0.2.1/", False),
    ("http://0x7f.1/", "", "http://127.0.0.1/", True),
    ("http://[::1]/", "", "http://[0::1]/", True),
    ("http://[::1]/", "Domain=[::1]", "http://[::1]/", True),
    ("http://[::1]/", "Domain=1]", "http://[::1]/", False),
    # International names, and names with a dot at the end
    (
        "http://b\xfccher.example/",
        "Domain=XN--BCHER-KVA.example",
        "http://a.B\xdcCHER.example/",
        True,
    ),
    ("http://example.com./", "", "http://example.com./", True),
    ("http://example.com./", "", "http://example.com/", False),
    ("http://example.com./", "Domain=example.com", "http://example.com./", False),
    ("http://www.example.com./", "Domain=example.com.", "http://example.com./", True),
)

DATES = {
    "Sun, 06 Nov 1994 08:49:37 GMT": (1994, 11, 6, 8, 49, 37),
    "Sunday, 06-Nov-94 08:49:37 GMT": (1994, 11, 6, 8, 49, 37),
    "Sun Nov  6 08:49:37 1994": (1994, 11, 6, 8, 49, 37),
    "Thu, 01-Jan-70 00:00:00 GMT": (1970, 1, 1, 0, 0, 0),
    "Thu, 01-Jan-69 00:00:00 GMT": (2069, 1, 1, 0, 0, 0),
    "1 jan 9999 23:59:59": (9999, 1, 1, 23, 59, 59),
    "8:4:7 06-NOVEMBER-1994": (1994, 11, 6, 8, 4, 7),
    "1994/Nov/6th 08:49:37pm +0900": (1994, 11, 6, 8, 49, 37),
    "\t6\tNov\t1994x\t08:49:37.123": (1994, 11, 6, 8, 49, 37),
    "Nov 94 6 08:49:37": None,  # the day comes before the year
    "06 Nov 1994 08:49": None,
    "06 Nov 1994": None,
    "06 Nov 08:49:37": None,
    "06 11 1994 08:49:37": None,
    "31 Feb 1994 08:49:37": None,
    "00 Nov 1994 08:49:37": None,
    "32 Nov 1994 08:49:37": None,
    "06 Nov 1600 08:49:37": None,
    "06 Nov 19940 08:49:37": None,
    "06 Nov 1994 24:00:00": None,
    "06 Nov 1994 08:60:37": None,
    "06 Nov 1994 008:49:37": None,
    "784111777": None,
    "": None,
}


def head_of(*lines):
    values = [(b"Set-Cookie", line.encode("latin-1")) for line in lines]
    return Head(200, b"", "1.1", Headers(values), 0, None)


class Recording(OrderedDict):
    """Notes which keys are looked up."""

    def __init__(self, items):
        super().__init__(items)
        self.read = []

    def get(self, key, default=None):
        self.read.append(key)
        return super().get(key, default)


class Case(SynchronousTestCase):
    def setUp(self):
        self.now = NOW
        self.cookies = Cookies(lambda: self.now)

    def set(self, url, *lines):
        self.cookies.store(parse_url(url), head_of(*lines))

    def sent(self, url):
        value = self.cookies.header(parse_url(url))
        return None if value is None else value.decode("latin-1")


class RuleTests(Case):
    def check(self, url, table):
        for line, expected in table.items():
            self.setUp()
            self.set(url, line)
            self.assertEqual(self.sent(url), expected, line[:100])

    def test_what_a_line_sets_is_sent_back(self):
        self.check(PAGE, LINES)

    def test_what_a_line_sets_over_https_is_sent_back(self):
        self.check(SECURE, SECURE_LINES)

    def test_cookies_go_where_they_belong(self):
        for url, attributes, target, is_sent in PLACES:
            self.setUp()
            self.set(url, f"a=1; {attributes}")
            self.assertEqual(self.sent(target), "a=1" if is_sent else None, (url, target))

    def test_dates_are_read_in_every_form(self):
        for text, expected in DATES.items():
            date = parse_date(text.encode())
            if expected is None:
                self.assertIsNone(date, text)
            else:
                found = module.datetime.fromtimestamp(date, module.UTC)
                self.assertEqual(found.timetuple()[:6], expected, text)


class StoreTests(Case):
    def test_longer_paths_come_first_and_then_older_cookies(self):
        self.set(PAGE, "a=1; Path=/", "b=2; Path=/a/b", "c=3; Path=/a", "d=4; Path=/a/b")
        self.set(PAGE, "e=5; Path=/; Domain=example.com")
        self.set(PAGE, "a=6; Path=/")  # keeps its age
        self.assertEqual(self.sent(PAGE), "b=2; d=4; c=3; a=6; e=5")

    def test_a_cookie_replaces_one_of_the_same_name_path_and_domain(self):
        self.set(PAGE, "a=1; Path=/", "a=2; Path=/")
        self.assertEqual(self.sent(PAGE), "a=2")
        self.set(PAGE, "a=3; Path=/a", "A=4; Path=/", "a=5; Path=/; Domain=example.com")
        self.assertEqual(self.sent(PAGE), "a=3; a=2; A=4; a=5")
        self.set(PAGE, "a=6; Path=/; Domain=www.example.com")  # not for this host only
        self.assertEqual(self.sent(PAGE), "a=3; a=2; A=4; a=5; a=6")

    def test_an_expired_cookie_removes_its_predecessor(self):
        self.set(PAGE, "a=1; Path=/", "b=2; Path=/a", "c=3")
        self.set(PAGE, "a=; Path=/; Max-Age=0", "b=; Path=/; Max-Age=0")
        self.set(PAGE, "c=; Expires=Thu, 01-Jan-70 00:00:01 GMT")
        self.assertEqual(self.sent(PAGE), "b=2")
        self.set(PAGE, "b=; Path=/a; Max-Age=0")
        self.assertIsNone(self.sent(PAGE))

    def test_cookies_expire(self):
        self.set(PAGE, "a=1; Max-Age=10", "b=2; Expires=Fri, 15 Jan 2027 08:00:20 GMT", "c=3")
        self.now += 9.9
        self.assertEqual(self.sent(PAGE), "a=1; b=2; c=3")
        self.now += 0.1
        self.assertEqual(self.sent(PAGE), "b=2; c=3")
        self.now += 10
        self.assertEqual(self.sent(PAGE), "c=3")

    def test_no_lifetime_is_longer_than_400_days(self):
        self.set(PAGE, "a=1; Max-Age=999999999", "b=2; Expires=1 Jan 2100 00:00:00")
        self.now += 400 * 24 * 3600 - 1
        self.assertEqual(self.sent(PAGE), "a=1; b=2")
        self.now += 1
        self.assertIsNone(self.sent(PAGE))

    def test_plain_http_does_not_replace_a_secure_cookie(self):
        self.set(SECURE, "a=1; Secure; Path=/a; Domain=example.com")
        self.set(PAGE, "a=2; Path=/a", "a=3; Path=/a/b; Domain=example.com", "a=; Max-Age=0")
        self.assertEqual(self.sent(SECURE), "a=1")
        self.assertIsNone(self.sent(PAGE))
        self.set(PAGE, "a=4; Path=/")  # above the other's path
        self.assertEqual(self.sent(SECURE), "a=1; a=4")
        self.set(SECURE, "a=5; Path=/a; Domain=example.com")
        self.assertEqual(self.sent(PAGE), "a=5; a=4")

    def test_a_host_keeps_the_cookies_that_were_used_last(self):
        for number in range(170):
            self.set(PAGE, f"c{number}=; Path=/a/b")
        self.set("http://www.example.com/x/", *(f"d{number}=" for number in range(10)))
        self.assertEqual(self.sent(PAGE).count(";") + 1, 170)
        self.set(PAGE, "new=; Path=/x")
        self.assertEqual(
            self.sent("http://www.example.com/x/"),
            "d1=; d2=; d3=; d4=; d5=; d6=; d7=; d8=; d9=; new=",
        )
        self.assertIn("c0=;", self.sent(PAGE))

    def test_the_size_of_all_cookies_is_limited(self):
        with patch.object(module, "_MAX_SIZE", 10_000):
            for number in range(100):
                self.set(f"http://h{number}.example/", f"a={'x' * 200}")
                self.assertIsNotNone(self.sent("http://h0.example/"))
        kept = [number for number in range(100) if self.sent(f"http://h{number}.example/")]
        self.assertEqual(kept, [0, *range(89, 100)])

    def test_nothing_is_left_of_what_is_gone(self):
        for number in range(10):
            self.set(f"http://h{number}.example/", "a=1; Max-Age=1", "b=2")
            self.set(f"http://h{number}.example/", "b=2; Max-Age=0")
        self.now += 1
        for number in range(10):
            self.assertIsNone(self.sent(f"http://h{number}.example/"))
        self.assertEqual((self.cookies._size, len(self.cookies._domains)), (0, 0))

    def test_a_request_looks_at_its_host_and_the_domains_around_it(self):
        for number in range(100):
            self.set(f"http://h{number}.example/", "a=1")
        self.cookies._domains = Recording(self.cookies._domains)
        self.assertIsNone(self.sent("http://a.h7.example/"))
        self.assertEqual(self.cookies._domains.read, ["a.h7.example", "h7.example", "example"])

    def test_values_are_not_shown(self):
        self.set(PAGE, "a=secret", "secret")
        shown = repr(self.cookies) + repr(self.cookies._domains)
        self.assertNotIn("secret", shown)
