"""Private addresses are refused in every spelling; errors of connecting say the cause."""

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IHostnameResolver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from evserve.http.connect import explain_connecting, explain_loss, is_public
from evserve.http.proxy import Proxies, parse_proxy
from evserve.http.url import Origin
from tests.http.memory_network import Network
from tests.http.recording_receiver import fetch


PUBLIC = ("8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "64:ff9b::808:808", "2002:808:808::1")
PRIVATE = (
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2001:0:0:0:0:0:80ff:fffe",  # Teredo: its client is 127.0.0.1
    "no address",
)


class AddressTests(SynchronousTestCase):
    def test_public_addresses_are_public_also_when_translated(self):
        for address in PUBLIC:
            self.assertTrue(is_public(address), address)

    def test_private_addresses_are_private_however_wrapped(self):
        for address in PRIVATE:
            self.assertFalse(is_public(address), address)


@implementer(IHostnameResolver)
class Resolver:
    """Answers each lookup with the next of the given answers."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def resolveHostName(
        self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"
    ):
        receiver.resolutionBegan(self)
        for host in self.answers.pop(0):
            kind = IPv6Address if ":" in host else IPv4Address
            receiver.addressResolved(kind("TCP", host, portNumber))
        receiver.resolutionComplete()
        return self

    def cancel(self):
        pass


class RefusalTests(SynchronousTestCase):
    def setUp(self):
        self.network = Network()

    def resolve(self, *answers):
        self.network.reactor.installNameResolver(Resolver(*answers))

    def test_addresses_in_any_spelling(self):
        client = self.network.client(allow_private=False)
        for host in ("127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"):
            call = fetch(client, f"http://{host}/")
            self.assertEqual(call.outcome, "PrivateAddress", host)
        self.assertEqual(self.network.attempts, 0)

    def test_public_addresses_are_connected_to(self):
        client = self.network.client(allow_private=False)
        call = fetch(client, "http://8.8.8.8/")
        self.network.accept().ok()
        self.assertEqual(call.outcome, b"ok")

    def test_names_of_private_addresses_are_refused(self):
        self.resolve(["10.0.0.1", "::1"])
        call = fetch(self.network.client(allow_private=False), "http://inside.example/")
        self.assertEqual(call.outcome, "PrivateAddress")
        self.assertIn("inside.example is 10.0.0.1, ::1", str(call.error))

    def test_only_public_addresses_of_a_name_are_connected_to(self):
        self.resolve(["127.0.0.1", "8.8.8.8"])
        fetch(self.network.client(allow_private=False), "http://two.example/")
        self.assertEqual(self.network.last_place, ("8.8.8.8", 80))

    def test_a_name_that_changes_its_address_is_checked_again(self):
        self.resolve(["8.8.8.8"], ["127.0.0.1"])
        client = self.network.client(allow_private=False)
        first = fetch(client, "http://rebinds.example/")
        self.network.accept().ok(b"ok", b"Connection: close")
        second = fetch(client, "http://rebinds.example/")
        self.assertEqual((first.outcome, second.outcome), (b"ok", "PrivateAddress"))

    def test_a_redirect_to_a_private_address_is_refused(self):
        call = fetch(self.network.client(allow_private=False), "http://8.8.8.8/")
        self.network.accept().ok(b"", b"Location: http://169.254.169.254/", status=b"302 Found")
        self.assertEqual(call.outcome, "PrivateAddress")

    def test_a_name_that_does_not_resolve_is_not_a_private_address(self):
        self.resolve([])
        call = fetch(self.network.client(allow_private=False), "http://nowhere.example/")
        self.assertEqual(call.outcome, "ConnectFailed")

    def test_a_proxy_may_be_private_but_not_the_origin(self):
        proxies = Proxies(http=parse_proxy("127.0.0.1:3128"))
        client = self.network.client(allow_private=False, proxies=proxies)
        for url in (
            *("http://127.1/", "http://localhost/", "http://x.localhost./", "http://intranet/"),
            *("http://nas.local/", "http://db.internal/", "http://tv.home.arpa/"),
        ):
            self.assertEqual(fetch(client, url).outcome, "PrivateAddress")
        call = fetch(client, "http://example.com/")
        self.network.accept().ok()
        self.assertEqual(call.outcome, b"ok")


ORIGIN = Origin("http", "a.example", 80)


class ReasonTests(SynchronousTestCase):
    def test_failed_connections_have_named_errors(self):
        for cause, name, words in (
            (error.DNSLookupError(), "ConnectFailed", "a.example cannot be resolved"),
            (error.ConnectionRefusedError(), "ConnectFailed", "refuses connections"),
            (error.TCPTimedOutError(), "ConnectTimeout", "does not answer"),
            (error.TimeoutError(), "ConnectTimeout", "does not answer"),
            (CancelledError(), "Cancelled", "cancelled"),
            (OSError(), "ConnectFailed", "OSError"),
        ):
            explained = explain_connecting(Failure(cause), ORIGIN)
            self.assertEqual(type(explained).__name__, name)
            self.assertIn(words, str(explained))

    def test_lost_connections_have_named_errors(self):
        for cause, name, words in (
            (error.ConnectionDone(), "ConnectionLost", "was closed"),
            (error.ConnectionLost(), "ConnectionLost", "broke"),
            (SSL.Error(), "TLSFailed", "the handshake failed"),
            (SSL.Error([("SSL routines", "", "bad record mac")]), "TLSFailed", "bad record mac"),
            (SSL.Error([("", "", "unsupported protocol")]), "TLSFailed", "TLS 1.2 or later"),
        ):
            explained = explain_loss(Failure(cause), None)
            self.assertEqual(type(explained).__name__, name)
            self.assertIn(words, str(explained))
