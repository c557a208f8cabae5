"""Digest answers are those of RFC 7616; challenges are found among others."""

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from evserve.http.auth import Auth, digest_challenge


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

    def test_what_cannot_be_answered_is_left(self):
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
