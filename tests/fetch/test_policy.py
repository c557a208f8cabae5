"""Retry-After, back-off, and what follows a response."""

from email.utils import formatdate

from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.policy import (
    Decider,
    Finish,
    Policy,
    Redirect,
    Retry,
    RetryPolicy,
    parse_retry_after,
)
from evserve.http.errors import (
    BadRedirect,
    ConnectFailed,
    CorruptBody,
    TooManyRedirects,
    TruncatedBody,
)
from evserve.http.headers import Head, Headers
from evserve.http.request import Request
from evserve.http.url import parse_url


class RetryAfterTests(SynchronousTestCase):
    def test_seconds_and_dates_are_understood(self):
        now = 1_700_000_000.0
        table = [
            (None, None),
            (b"120", 120.0),
            (b" 7 ", 7.0),
            (formatdate(now + 60, usegmt=True).encode(), 60.0),
            (formatdate(now + 60).encode(), 60.0),
            (formatdate(now - 60, usegmt=True).encode(), 0.0),
            (b"soon", None),
            (b"-5", None),
            (b"99999999999999999999", None),
        ]
        for value, seconds in table:
            self.assertEqual(parse_retry_after(value, now), seconds, value)


class RetryPolicyTests(SynchronousTestCase):
    def test_waits_grow_up_to_the_longest(self):
        policy = RetryPolicy(first=1.0, longest=10.0)
        waits = [policy.wait(tries, lambda: 1.0) for tries in (1, 2, 3, 4, 5, 5000)]
        self.assertEqual(waits, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0])

    def test_jitter_reduces_the_wait_by_up_to_nine_tenths(self):
        self.assertAlmostEqual(RetryPolicy(first=10.0).wait(1, lambda: 0.0), 1.0)

    def test_only_idempotent_methods_are_retried_up_to_the_limit(self):
        policy = RetryPolicy(retries=2)
        self.assertTrue(policy.allows(b"GET", 2))
        self.assertFalse(policy.allows(b"GET", 3))
        self.assertFalse(policy.allows(b"POST", 1))


def head(status, *lines):
    return Head(status, b"", "1.1", Headers(list(lines)), 0, None)


class DecisionTests(SynchronousTestCase):
    def setUp(self):
        self.decider = Decider(Policy(retry=RetryPolicy(2, 1.0)), lambda: 1.0, lambda: 0.0)
        self.request = Request(parse_url("http://a/b"))

    def after(self, response, tries=1, hops=5):
        return self.decider.after_response(self.request, response, tries, hops)

    def test_a_success_is_finished(self):
        for status in (200, 206, 304):
            self.assertEqual(self.after(head(status)), Finish())

    def test_a_status_of_400_and_above_is_an_error(self):
        decision = self.after(head(404))
        self.assertEqual(str(decision.error), "404 Not Found")
        self.assertEqual(str(self.after(head(499)).error), "499")

    def test_a_redirect_is_followed(self):
        decision = self.after(head(302, (b"Location", b"/c")))
        self.assertIsInstance(decision, Redirect)
        self.assertEqual(str(decision.request.url), "http://a/c")

    def test_a_redirect_without_a_location_is_finished(self):
        self.assertEqual(self.after(head(302)), Finish())

    def test_a_redirect_that_cannot_be_followed_is_an_error(self):
        self.assertIsInstance(self.after(head(302, (b"Location", b"ftp://a/"))).error, BadRedirect)
        self.assertIsInstance(
            self.after(head(302, (b"Location", b"/c")), hops=0).error, TooManyRedirects
        )

    def test_a_transient_status_is_retried(self):
        decision = self.after(head(500), tries=2)
        self.assertEqual((decision.wait, decision.pause), (2.0, 0.0))

    def test_a_503_pauses_the_origin(self):
        decision = self.after(head(503))
        self.assertEqual((decision.wait, decision.pause), (1.0, 1.0))

    def test_retry_after_is_obeyed(self):
        decision = self.after(head(429, (b"Retry-After", b"17")))
        self.assertEqual((decision.wait, decision.pause), (17.0, 17.0))

    def test_the_origin_pauses_even_without_a_retry(self):
        decision = self.after(head(503, (b"Retry-After", b"17")), tries=3)
        self.assertEqual((decision.wait, decision.pause), (float("inf"), 17.0))

    def test_a_retry_after_above_the_limit_is_not_waited_for(self):
        decision = self.after(head(503, (b"Retry-After", b"100000")))
        self.assertEqual((decision.wait, decision.pause), (float("inf"), 300.0))

    def test_transient_errors_are_retried(self):
        decision = self.decider.after_error(self.request, TruncatedBody("cut"), 1)
        self.assertIsInstance(decision, Retry)
        self.assertEqual(decision.wait, 1.0)
        error = ConnectFailed("refused")
        self.assertEqual(self.decider.after_error(self.request, error, 3), Finish(error))

    def test_permanent_errors_are_not_retried(self):
        error = CorruptBody("bad")
        self.assertEqual(self.decider.after_error(self.request, error, 1), Finish(error))
