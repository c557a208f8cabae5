"""Failures of a proxy, and of an origin behind one, with the errors that they cause."""

from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from evserve.http.proxy import Proxies, parse_proxy
from evserve.http.settings import Timeouts
from tests.http.memory_network import Network


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


# What the proxy does, for which URL: the error, what it says, and whether it is transient.
PROXY_FAILURES = (
    (refused, HTTP, "ProxyUnreachable", f"{PROXY} refuses connections", True),
    (refused, HTTPS, "ProxyUnreachable", f"{PROXY} refuses connections", True),
    (unknown, HTTP, "ProxyUnreachable", "192.0.2.9 cannot be resolved", True),
    (unknown, HTTPS, "ProxyUnreachable", "192.0.2.9 cannot be resolved", True),
    (unanswered, HTTP, "ProxyUnreachable", f"{PROXY} does not answer", True),
    (unanswered, HTTPS, "ProxyUnreachable", f"{PROXY} does not answer", True),
    (silent, HTTP, "IdleTimeout", f"(through the proxy {PROXY})", True),
    (silent, HTTPS, "ProxyUnreachable", f"{PROXY} does not answer", True),
    (closed, HTTP, "ProxyUnreachable", f"{PROXY} failed", True),
    (closed, HTTPS, "ProxyUnreachable", f"{PROXY} failed", True),
    (answers(b"407 No"), HTTP, "ProxyFailed", f"{PROXY} answers 407 No: it requires", False),
    (answers(b"407 No"), HTTPS, "ProxyFailed", f"{PROXY} answers 407 No: it requires", False),
    (answers(b"502 Bad"), HTTPS, "TunnelFailed", f"{PROXY} answers 502 Bad", True),
    (answers(b"503 Busy"), HTTPS, "TunnelFailed", f"{PROXY} answers 503 Busy", True),
)
UNREACHABLE = [row for row in PROXY_FAILURES if row[2] == "ProxyUnreachable"]
SILENT = [*UNREACHABLE, *(row for row in PROXY_FAILURES if row[2] == "IdleTimeout")]
ORIGIN_FAILURES = (
    (no_tls, "TLSFailed", "TLS"),
    (hangs_up, "ConnectFailed", "https://192.0.2.1 closed the connection"),
    (never_shakes_hands, "ConnectTimeout", "https://192.0.2.1 does not answer"),
)


class ProxyCase(SynchronousTestCase):
    def client(self, proxy=PROXY, **settings):
        """Return a client on a network of its own."""
        self.network = Network()
        proxy = parse_proxy(proxy)
        return self.network.client(
            **{"timeouts": TIMEOUTS, "proxies": Proxies(proxy, proxy), **settings}
        )
