"""Failures of a proxy are retried and pause the proxy, not the origins behind it."""

from evserve.fetch.breaker import Breakers
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.policy import TRANSIENT_ERRORS, Policy, RetryPolicy
from evserve.http.errors import IdleTimeout
from evserve.http.proxy import Proxies, as_proxy_error, parse_proxy
from evserve.http.url import parse_url
from tests.http.proxy_failures import (
    DIRECT,
    ELSEWHERE,
    HTTP,
    HTTPS,
    ORIGIN_FAILURES,
    PROXY,
    PROXY_FAILURES,
    SILENT,
    TIMEOUTS,
    UNREACHABLE,
    ProxyCase,
    silent,
)
from tests.http.recording_receiver import fetch


class RetryTests(ProxyCase):
    def test_transient_proxy_errors_are_retried(self):
        for behave, url, _, _, passes in PROXY_FAILURES:
            call = fetch(self.client(), url)
            behave(self.network)
            self.assertEqual(isinstance(call.error, TRANSIENT_ERRORS), passes, (behave, url))


class BreakerTests(ProxyCase):
    """After five failures in a row the proxy or origin pauses: the sixth request waits."""

    def fetcher_after_five(self, behave, url):
        return self.fetcher_after(behave, [url] * 5)

    def fetcher_after(self, behave, urls):
        proxy = parse_proxy(PROXY)
        proxies = Proxies(proxy, proxy, exempt=("192.0.2.3",))
        fetcher = Fetcher(
            self.client(proxies=proxies),
            self.network.reactor,
            Policy(obey_robots=False, retry=RetryPolicy(0)),
            timeouts=TIMEOUTS,
        )
        self.addCleanup(fetcher.close)
        for url in urls:
            result = fetcher.fetch(url)
            behave(self.network)
            self.assertIsNotNone(self.successResultOf(result).error)
        return fetcher

    def attempts(self, fetcher, *urls):
        """Return how many connections are tried for these URLs."""
        before = self.network.attempts
        for url in urls:
            fetcher.fetch(url)
        return self.network.attempts - before

    def test_a_silent_proxy_is_paused_with_all_its_origins(self):
        for behave, url, *_ in UNREACHABLE:
            fetcher = self.fetcher_after_five(behave, url)
            self.assertEqual(self.attempts(fetcher, url, ELSEWHERE), 0, (behave, url))
            self.assertEqual(self.attempts(fetcher, DIRECT), 1, (behave, url))
            before = self.network.attempts
            self.network.advance(1.1)
            self.assertEqual(self.network.attempts - before, 2, (behave, url))

    def test_only_the_origin_that_hangs_behind_a_proxy_is_paused(self):
        fetcher = self.fetcher_after_five(silent, HTTP)
        self.assertEqual(self.attempts(fetcher, HTTP), 0)
        self.assertEqual(self.attempts(fetcher, ELSEWHERE), 1)

    def test_a_proxy_is_paused_if_several_origins_hang(self):
        urls = [f"http://192.0.2.{number}/" for number in (11, 12, 13, 11, 12, 13, 14)]
        fetcher = self.fetcher_after(silent, urls)
        self.assertEqual(self.attempts(fetcher, HTTP, ELSEWHERE), 0)
        self.assertEqual(self.attempts(fetcher, DIRECT), 1)

    def test_a_response_in_between_clears_the_proxy(self):
        proxy = parse_proxy(PROXY)
        late, health = as_proxy_error(IdleTimeout("late"), proxy), Breakers()
        origins = [parse_url(f"http://h{number}/").origin for number in range(50)]
        for origin in origins:
            health.answered(origins[0], proxy)
            self.assertEqual(health.failed(origin, proxy, late, 0.0), (origin, 0.0))
            self.assertEqual(health.failed(origin, proxy, late, 0.0), (origin, 0.0))

    def test_an_error_response_of_a_proxy_pauses_nothing(self):
        for behave, url, *_ in PROXY_FAILURES:
            if (behave, url) not in [each[:2] for each in SILENT]:
                fetcher = self.fetcher_after_five(behave, url)
                self.assertEqual(self.attempts(fetcher, url), 1, (behave, url))

    def test_only_the_origin_that_fails_behind_a_tunnel_is_paused(self):
        for behave, *_ in ORIGIN_FAILURES:
            fetcher = self.fetcher_after_five(behave, HTTPS)
            self.assertEqual(self.attempts(fetcher, HTTPS), 0, behave)
            self.assertEqual(self.attempts(fetcher, ELSEWHERE), 1, behave)
