"""Who may know a password, in which scheme, and for how long a challenge is good."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.http.auth import Auth, Credentials
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import parse_url


def head(nonce, *more):
    line = ", ".join([f'Digest realm="r", nonce="{nonce}"', *more]).encode()
    return Head(401, b"", "1.1", Headers([(b"WWW-Authenticate", line)]), 0, None)


class CredentialTests(SynchronousTestCase):
    def setUp(self):
        self.credentials = Credentials(size=2)

    def sent(self, url, **details):
        header = self.credentials.header(Request(parse_url(url), **details))
        return header and header.decode().partition(",")[0]

    def challenged(self, url, nonce="n", answers=1, **details):
        request = Request(parse_url(url), **details)
        return self.credentials.challenged(request, head(nonce), answers)

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
        self.assertFalse(self.challenged("http://u:p@a/", answers=2))
        self.assertEqual(self.sent("http://u:p@a/"), "Basic dTpw")

    def test_the_oldest_challenge_makes_room(self):
        for host in "abc":
            self.challenged(f"http://u:p@{host}/")
        schemes = [self.sent(f"http://u:p@{host}/").split()[0] for host in "abc"]
        self.assertEqual(schemes, ["Basic", "Digest", "Digest"])
