"""What a proxy does wrong is said of the proxy, and never counted against the origin."""

from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.breaker import Breakers
from evserve.fetch.fetcher import Fetcher
from evserve.fetch.policy import TRANSIENT_ERRORS, Policy, RetryPolicy
from evserve.http.blame import at_proxy
from evserve.http.errors import IdleTimeout
from evserve.http.proxies import Proxies, parse_proxy
from evserve.http.settings import Timeouts
from evserve.http.url import parse_url
from tests.http.gather import fetch
from tests.http.network import Network


PROXY = "http://192.0.2.9:3128"
HTTP, HTTPS = "http://192.0.2.1/", "https://192.0.2.1/"
ELSEWHERE, DIRECT = "http://192.0.2.2/", "http://192.0.2.3/"
TIMEOUTS = Timeouts(connect=8, idle=8, total=20)
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def refused(network):
    network.refuse(Refused())


def unknown(network):
    network.refuse(DNSLookupError())


def unanswered(network):
    network.advance(8.5)


def silent(network):
    network.accept()
    network.advance(8.5)


def closed(network):
    network.accept().close()


def answers(text):
    return lambda network: network.accept().answer(b"HTTP/1.1 %b\r\n\r\n" % text)


def opened(network):
    peer = network.accept()
    peer.answer(OPENED)
    return peer


def no_tls(network):
    opened(network).answer(b"not tls at all")


def hangs_up(network):
    opened(network).close()


def never_shakes_hands(network):
    opened(network)
    network.advance(8.5)


# What the proxy does, for which URL: the error, what it says, and whether it is tried again.
PROXYS = (
    (refused, HTTP, "ProxyUnreachable", f"{PROXY} refuses connections", True),
    (refused, HTTPS, "ProxyUnreachable", f"{PROXY} refuses connections", True),
    (unknown, HTTP, "ProxyUnreachable", "192.0.2.9 cannot be resolved", True),
    (unknown, HTTPS, "ProxyUnreachable", "192.0.2.9 cannot be resolved", True),
    (unanswered, HTTP, "ProxyUnreachable", f"{PROXY} does not answer", True),
    (unanswered, HTTPS, "ProxyUnreachable", f"{PROXY} does not answer", True),
    (silent, HTTP, "IdleTimeout", f"asked through the proxy {PROXY}", True),
    (silent, HTTPS, "ProxyUnreachable", f"{PROXY} does not answer", True),
    (closed, HTTP, "ProxyUnreachable", f"{PROXY} broke off", True),
    (closed, HTTPS, "ProxyUnreachable", f"{PROXY} broke off", True),
    (answers(b"407 No"), HTTP, "ProxyFailed", f"{PROXY} answers 407 No: it wants", False),
    (answers(b"407 No"), HTTPS, "ProxyFailed", f"{PROXY} answers 407 No: it wants", False),
    (answers(b"502 Bad"), HTTPS, "TunnelFailed", f"{PROXY} answers 502 Bad", True),
    (answers(b"503 Busy"), HTTPS, "TunnelFailed", f"{PROXY} answers 503 Busy", True),
)
UNREACHABLE = [row for row in PROXYS if row[2] == "ProxyUnreachable"]
SILENT = [*UNREACHABLE, *(row for row in PROXYS if row[2] == "IdleTimeout")]
ORIGINS = (
    (no_tls, "TLSFailed", "TLS"),
    (hangs_up, "ConnectFailed", "https://192.0.2.1 closed the connection"),
    (never_shakes_hands, "ConnectTimeout", "https://192.0.2.1 does not answer"),
)


class Case(SynchronousTestCase):
    def client(self, proxy=PROXY, **settings):
        """Return a client on a network of its own."""
        self.network = Network()
        proxy = parse_proxy(proxy)
        return self.network.client(
            **{"timeouts": TIMEOUTS, "proxies": Proxies(proxy, proxy), **settings}
        )


class BlameTests(Case):
    def test_the_error_names_the_proxy_and_not_the_origin(self):
        for behave, url, name, words, _ in PROXYS:
            call = fetch(self.client(), url)
            behave(self.network)
            self.assertEqual(call.outcome, name, (behave, url))
            self.assertIn(words, str(call.error))
            self.assertNotIn("192.0.2.1 ", f"{call.error} ")

    def test_what_may_pass_is_tried_again(self):
        for behave, url, _, _, passes in PROXYS:
            call = fetch(self.client(), url)
            behave(self.network)
            self.assertEqual(isinstance(call.error, TRANSIENT_ERRORS), passes, (behave, url))

    def test_what_happens_beyond_the_tunnel_is_the_origins(self):
        for behave, name, words in ORIGINS:
            call = fetch(self.client(), HTTPS)
            behave(self.network)
            self.assertEqual(call.outcome, name)
            self.assertIn(words, str(call.error))
            self.assertNotIn(PROXY, str(call.error))

    def test_too_late_for_lack_of_a_proxy_is_not_the_origins_fault(self):
        for url in (HTTP, HTTPS):
            call = fetch(self.client(timeouts=Timeouts(total=3)), url)
            self.network.advance(3.5)
            self.assertEqual((call.outcome, call.error.is_at_proxy), ("TotalTimeout", True))
            self.assertIn(PROXY, str(call.error))

    def test_too_late_without_a_proxy_is(self):
        self.network = Network()
        call = fetch(self.network.client(timeouts=Timeouts(total=3)), HTTP)
        self.network.advance(3.5)
        self.assertEqual((call.outcome, call.error.is_at_proxy), ("TotalTimeout", False))

    def test_tls_that_fails_before_the_proxy_is_the_proxys(self):
        secure = "https://192.0.2.9:3128"
        for url in (HTTP, HTTPS):
            call = fetch(self.client(secure), url)
            self.network.accept().answer(b"not tls at all")
            self.assertEqual(call.outcome, "ProxyFailed", url)
            self.assertIn(f"the proxy {secure} cannot be used: ", str(call.error))
            self.assertIn("TLS", str(call.error))


class BreakerTests(Case):
    """Five failures in a row, and who is to blame rests: the sixth request has to wait."""

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
        """Return how many connections are tried when these are to be fetched."""
        before = self.network.attempts
        for url in urls:
            fetcher.fetch(url)
        return self.network.attempts - before

    def test_a_proxy_that_is_silent_rests_and_all_that_is_behind_it(self):
        for behave, url, *_ in UNREACHABLE:
            fetcher = self.fetcher_after_five(behave, url)
            self.assertEqual(self.attempts(fetcher, url, ELSEWHERE), 0, (behave, url))
            self.assertEqual(self.attempts(fetcher, DIRECT), 1, (behave, url))
            before = self.network.attempts
            self.network.advance(1.1)
            self.assertEqual(self.network.attempts - before, 2, (behave, url))

    def test_an_origin_that_hangs_behind_a_proxy_rests_and_no_other(self):
        fetcher = self.fetcher_after_five(silent, HTTP)
        self.assertEqual(self.attempts(fetcher, HTTP), 0)
        self.assertEqual(self.attempts(fetcher, ELSEWHERE), 1)

    def test_a_proxy_through_which_several_origins_hang_rests(self):
        urls = [f"http://192.0.2.{number}/" for number in (11, 12, 13, 11, 12, 13, 14)]
        fetcher = self.fetcher_after(silent, urls)
        self.assertEqual(self.attempts(fetcher, HTTP, ELSEWHERE), 0)
        self.assertEqual(self.attempts(fetcher, DIRECT), 1)

    def test_an_answer_in_between_means_that_the_proxy_is_well(self):
        proxy = parse_proxy(PROXY)
        late, health = at_proxy(IdleTimeout("late"), proxy), Breakers()
        origins = [parse_url(f"http://h{number}/").origin for number in range(50)]
        for origin in origins:
            health.answered(origins[0], proxy)
            self.assertEqual(health.failed(origin, proxy, late, 0.0), (origin, 0.0))
            self.assertEqual(health.failed(origin, proxy, late, 0.0), (origin, 0.0))

    def test_a_proxy_that_answers_does_not_and_neither_does_the_origin(self):
        for behave, url, *_ in PROXYS:
            if (behave, url) not in [each[:2] for each in SILENT]:
                fetcher = self.fetcher_after_five(behave, url)
                self.assertEqual(self.attempts(fetcher, url), 1, (behave, url))

    def test_an_origin_that_fails_behind_a_tunnel_rests_and_no_other(self):
        for behave, *_ in ORIGINS:
            fetcher = self.fetcher_after_five(behave, HTTPS)
            self.assertEqual(self.attempts(fetcher, HTTPS), 0, behave)
            self.assertEqual(self.attempts(fetcher, ELSEWHERE), 1, behave)
