"""Digest answers are those of RFC 7616; passwords stay with their origin."""

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from evserve.http.auth import Auth, Authenticator, digest_challenge
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import parse_url


RFC = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
MUFASA = Auth("Mufasa", "Circle of Life", digest=True)
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


class DigestTests(SynchronousTestCase):
    def answer(self, challenge):
        return challenge.answer(MUFASA, "GET", "/dir/index.html", CNONCE).decode()

    def test_the_examples_of_the_rfc(self):
        for algorithm, response in (
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ):
            answer = self.answer(digest_challenge([RFC.format(algorithm).encode()]))
            self.assertIn(f'response="{response}"', answer)
            self.assertIn(f"algorithm={algorithm}, qop=auth, nc=00000001", answer)
            self.assertIn('opaque="FQhe/', answer)

    def test_the_strongest_challenge_is_answered(self):
        values = [RFC.format("MD5").encode(), b"Basic realm=x", RFC.format("SHA-256").encode()]
        self.assertEqual(digest_challenge(values).algorithm, "SHA-256")
        joined = ", ".join(["Negotiate", "Basic realm=x", RFC.format("MD5")]).encode()
        self.assertEqual(digest_challenge([joined]).realm, "http-auth@example.org")

    def test_each_use_of_a_nonce_counts(self):
        challenge = digest_challenge([RFC.format("MD5").encode()])
        first, second = self.answer(challenge), self.answer(challenge)
        self.assertIn("nc=00000002", second)
        self.assertNotEqual(first, second)

    def test_the_old_form_has_neither_count_nor_algorithm(self):
        answer = self.answer(digest_challenge([b'Digest realm="a \\"b\\"", nonce=n']))
        secret, what = md5('Mufasa:a "b":Circle of Life'), md5("GET:/dir/index.html")
        self.assertEqual(
            answer,
            'Digest username="Mufasa", realm="a \\"b\\"", nonce="n", uri="/dir/index.html", '
            f'response="{md5(f"{secret}:n:{what}")}"',
        )

    def test_session_keys(self):
        answer = self.answer(digest_challenge([RFC.format("MD5-sess").encode()]))
        self.assertIn("algorithm=MD5-sess", answer)
        self.assertNotIn("8ca523f5e9506fed4657c9700eebdbec", answer)

    def test_a_fresh_client_nonce_is_made_up(self):
        challenge = digest_challenge([RFC.format("MD5").encode()])
        self.assertNotEqual(
            challenge.answer(MUFASA, "GET", "/"), challenge.answer(MUFASA, "GET", "/")
        )

    def test_unsupported_challenges_are_ignored(self):
        for value in (
            b"",
            b"Basic realm=x",
            b'Digest realm="x"',
            b'Digest nonce="x", algorithm=ROT13',
            b'Digest nonce="x", qop="auth-int"',
            b"!!! ??? ,,,",
        ):
            self.assertIsNone(digest_challenge([value]), value)

    def test_passwords_do_not_show(self):
        self.assertNotIn("Circle", repr(MUFASA))


def head(nonce, *more):
    line = ", ".join([f'Digest realm="r", nonce="{nonce}"', *more]).encode()
    return Head(401, b"", "1.1", Headers([(b"WWW-Authenticate", line)]), 0, None)


class AuthenticatorTests(SynchronousTestCase):
    def setUp(self):
        self.authenticator = Authenticator(size=2)

    def sent(self, url, **details):
        header = self.authenticator.header(Request(parse_url(url), **details))
        return header and header.decode().partition(",")[0]

    def challenged(self, url, nonce="n", attempts=1, **details):
        request = Request(parse_url(url), **details)
        return self.authenticator.challenged(request, head(nonce), attempts)

    def test_without_a_password_nothing_is_sent_and_nothing_answered(self):
        self.assertIsNone(self.sent("http://a/"))
        self.assertFalse(self.challenged("http://a/"))

    def test_a_challenge_changes_the_scheme_for_its_origin_and_name(self):
        self.assertEqual(self.sent("http://u:p@a/"), "Basic dTpw")
        self.assertTrue(self.challenged("http://u:p@a/"))
        self.assertEqual(self.sent("http://u:p@a/other"), 'Digest username="u"')
        self.assertEqual(self.sent("http://u:p@b/"), "Basic dTpw")
        self.assertEqual(self.sent("http://v:p@a/"), "Basic djpw")

    def test_basic_by_request_stays_basic(self):
        auth = Auth("u", "p")
        self.assertTrue(self.challenged("http://u:p@a/"))
        self.assertFalse(self.challenged("http://a/", auth=auth))
        self.assertEqual(self.sent("http://a/", auth=auth), "Basic dTpw")

    def test_a_body_that_cannot_be_sent_twice_answers_nothing(self):
        self.assertFalse(self.challenged("http://u:p@a/", body=object()))

    def test_a_wrong_password_is_not_remembered(self):
        self.challenged("http://u:p@a/")
        self.assertFalse(self.challenged("http://u:p@a/", attempts=2))
        self.assertEqual(self.sent("http://u:p@a/"), "Basic dTpw")

    def test_the_oldest_challenge_makes_room(self):
        for host in "abc":
            self.challenged(f"http://u:p@{host}/")
        schemes = [self.sent(f"http://u:p@{host}/").split()[0] for host in "abc"]
        self.assertEqual(schemes, ["Basic", "Digest", "Digest"])
