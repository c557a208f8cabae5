"""Redirects follow the Fetch standard: methods, bodies, private headers."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.http.auth import Auth
from evserve.http.errors import BadRedirect, RequestBodyFailed, TooManyRedirects
from evserve.http.headers import Head, Headers
from evserve.http.redirects import is_redirect, next_request
from evserve.http.request import Request
from evserve.http.url import parse_url


SECRETS = Headers([(b"Authorization", b"x"), (b"COOKIE", b"y"), (b"X-Own", b"z")])


class RedirectTests(SynchronousTestCase):
    def follow(self, status, location=b"/b", hops_left=1, **options):
        lines = [] if location is None else [(b"Location", location)]
        head = Head(status, b"", "1.1", Headers(lines), 0, None)
        return next_request(Request(parse_url("http://a.example/a"), **options), head, hops_left)

    def test_methods_change_as_the_fetch_standard_says(self):
        for status, before, after in (
            (301, b"POST", b"GET"),
            (302, b"POST", b"GET"),
            (301, b"PUT", b"PUT"),
            (302, b"DELETE", b"DELETE"),
            (302, b"HEAD", b"HEAD"),
            (303, b"POST", b"GET"),
            (303, b"PUT", b"GET"),
            (303, b"HEAD", b"HEAD"),
            (307, b"POST", b"POST"),
            (308, b"POST", b"POST"),
            (308, b"GET", b"GET"),
        ):
            request = self.follow(status, method=before)
            self.assertEqual(request.method, after, (status, before))
            self.assertEqual(str(request.url), "http://a.example/b")

    def test_a_body_goes_with_its_method_and_its_headers(self):
        headers = Headers([(b"Content-Type", b"x"), (b"X", b"y")])
        kept = self.follow(308, method=b"POST", body=b"z", headers=headers)
        self.assertEqual((kept.body, list(kept.headers)), (b"z", list(headers)))
        gone = self.follow(302, method=b"POST", body=b"z", headers=headers)
        self.assertEqual((gone.body, list(gone.headers)), (None, [(b"X", b"y")]))

    def test_a_body_from_a_producer_cannot_be_sent_again(self):
        producer = object()
        self.assertIsNone(self.follow(303, method=b"POST", body=producer).body)
        self.assertRaises(RequestBodyFailed, self.follow, 307, method=b"POST", body=producer)

    def test_private_headers_stay_with_their_origin(self):
        auth = Auth("u", "p")
        same = self.follow(302, headers=SECRETS, auth=auth)
        self.assertEqual((list(same.headers), same.auth), (list(SECRETS), auth))
        for elsewhere in (
            b"http://b.example/",
            b"//www.a.example/",
            b"https://a.example/",
            b"http://a.example:81/",
            b"http://a.example./",
        ):
            other = self.follow(302, elsewhere, headers=SECRETS, auth=auth)
            self.assertEqual((list(other.headers), other.auth), ([(b"X-Own", b"z")], None))

    def test_credentials_of_the_url_stay_with_their_origin_too(self):
        head = Head(302, b"", "1.1", Headers([(b"Location", b"/b")]), 0, None)
        url = parse_url("http://u:p@a.example/")
        self.assertEqual(next_request(Request(url), head, 1).url.credentials, ("u", "p"))
        away = Head(302, b"", "1.1", Headers([(b"Location", b"http://b.example/")]), 0, None)
        self.assertIsNone(next_request(Request(url), away, 1).url.credentials)

    def test_private_headers_do_not_go_from_https_to_http(self):
        head = Head(302, b"", "1.1", Headers([(b"Location", b"http://a.example/")]), 0, None)
        request = Request(parse_url("https://a.example/"), headers=SECRETS, auth=Auth("u", "p"))
        other = next_request(request, head, 1)
        self.assertEqual((list(other.headers), other.auth), ([(b"X-Own", b"z")], None))

    def test_private_headers_stay_behind_when_a_redirect_leads_back(self):
        back = Head(302, b"", "1.1", Headers([(b"Location", b"http://a.example/")]), 0, None)
        away = self.follow(302, b"http://b.example/", headers=SECRETS)
        self.assertEqual(list(next_request(away, back, 1).headers), [(b"X-Own", b"z")])

    def test_a_location_leads_where_browsers_go(self):
        for location, expected in {
            b"http:/b": "http://a.example/b",
            b"http:b": "http://a.example/b",
            b"?b": "http://a.example/a?b",
            b"#b": "http://a.example/a",
            b"//b.example": "http://b.example/",
            b" /b\\c d ": "http://a.example/b/c%20d",
            b"/\xfc": "http://a.example/%FC",
            "http://\u03a3\u0391\u03a3/".encode(): "http://xn--mxa9ab/",
        }.items():
            self.assertEqual(str(self.follow(302, location).url), expected, location)

    def test_a_redirect_status_without_a_location_is_not_a_redirect(self):
        self.assertIsNone(self.follow(302, None))
        self.assertIsNone(self.follow(302, b""))
        self.assertIsNone(self.follow(300))
        self.assertIsNone(self.follow(200))

    def test_the_limit_counts_the_redirects_that_are_left(self):
        self.assertIsNotNone(self.follow(302, hops_left=1))
        self.assertRaises(TooManyRedirects, self.follow, 302, hops_left=0)
        self.assertIsNone(self.follow(200, hops_left=0))

    def test_only_a_redirect_status_with_a_location_is_a_redirect(self):
        for status, lines, expected in (
            (302, [(b"Location", b"/b")], True),
            (302, [], False),
            (302, [(b"Location", b"")], False),
            (302, [(b"Location", b" \t"), (b"location", b"")], False),
            (302, [(b"Location", b""), (b"location", b"/b")], True),
            (300, [(b"Location", b"/b")], False),
        ):
            head = Head(status, b"", "1.1", Headers(lines), 0, None)
            self.assertIs(is_redirect(head), expected)

    def test_of_several_locations_the_first_that_is_not_blank_counts(self):
        lines = [(b"Location", value) for value in (b"", b" ", b"/b", b"/c")]
        head = Head(302, b"", "1.1", Headers(lines), 0, None)
        request = next_request(Request(parse_url("http://a.example/")), head, 1)
        self.assertEqual(request.url.target, "/b")

    def test_an_invalid_location_is_an_error(self):
        for location in (b"ftp://a/", b"http://", b"file:///etc/passwd", b"http://a:b/"):
            self.assertRaises(BadRedirect, self.follow, 302, location)
