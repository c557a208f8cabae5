"""TLS is verified, at least 1.2, and errors name what is wrong with the server."""

from datetime import UTC, datetime, timedelta

import trustme
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import (
    DN,
    Certificate,
    KeyPair,
    PrivateCertificate,
    trustRootFromCertificates,
)
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from evserve.http.client import Client
from evserve.http.connect import TLS
from evserve.http.settings import Settings, Timeouts
from tests.http.recording_receiver import fetch


class Hello(Protocol):
    def dataReceived(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@implementer(IOpenSSLContextFactory)
class OldTLS:
    """Wraps a server's context: TLS 1.0 and nothing else."""

    def __init__(self, options):
        self._options = options

    def getContext(self):
        context = self._options.getContext()
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_max_proto_version(SSL.TLS1_VERSION)
        return context


class TlsTests(TestCase):
    def setUp(self):
        self.authority = trustme.CA()
        trusted = [Certificate.loadPEM(self.authority.cert_pem.bytes())]
        self.client = Client(
            reactor,
            Settings(timeouts=Timeouts(connect=120, total=120)),
            tls=TLS(trustRootFromCertificates(trusted)),
        )
        self.addCleanup(self.client.close)

    async def serve(self, *names, authority=None, old=False, **validity):
        issued = (authority or self.authority).issue_cert(*names, **validity)
        pem = issued.private_key_and_cert_chain_pem.bytes()
        options = PrivateCertificate.loadPEM(pem).options()
        endpoint = SSL4ServerEndpoint(
            reactor, 0, OldTLS(options) if old else options, interface="127.0.0.1"
        )
        port = await endpoint.listen(Factory.forProtocol(Hello))
        self.addCleanup(port.stopListening)
        return port.getHost().port

    async def get(self, host, port):
        return await fetch(self.client, f"https://{host}:{port}/").ended

    async def refusal(self, host, port):
        got = await self.get(host, port)
        self.assertEqual(got.outcome, "TLSFailed")
        self.flushLoggedErrors(SSL.Error)
        return str(got.error)

    async def test_matching_names_and_addresses_are_accepted(self):
        port = await self.serve("localhost", "127.0.0.1")
        for host in ("localhost", "127.0.0.1", "127.1"):
            self.assertEqual((await self.get(host, port)).outcome, b"hello")

    async def test_connections_are_reused(self):
        port = await self.serve("127.0.0.1")
        for _ in range(3):
            self.assertEqual((await self.get("127.0.0.1", port)).outcome, b"hello")
        self.assertEqual(self.client.pool.open, 1)

    async def test_a_certificate_for_another_name_is_refused(self):
        port = await self.serve("example.com", "10.0.0.1")
        for host in ("localhost", "127.0.0.1"):
            words = await self.refusal(host, port)
            self.assertIn(f"the certificate is for example.com, 10.0.0.1, not for {host}", words)

    async def test_expired_and_future_certificates_are_refused(self):
        now = datetime.now(UTC)
        past, future = now - timedelta(days=1), now + timedelta(days=1)
        port = await self.serve("localhost", not_before=past, not_after=past + timedelta(hours=1))
        self.assertIn("has expired", await self.refusal("localhost", port))
        port = await self.serve("localhost", not_before=future, not_after=future + timedelta(1))
        self.assertIn("not valid yet", await self.refusal("localhost", port))

    async def test_an_unknown_authority_is_refused(self):
        port = await self.serve("localhost", authority=trustme.CA())
        self.assertIn("is not trusted here", await self.refusal("localhost", port))

    async def test_a_self_signed_certificate_is_refused(self):
        port = await self.serve_self_signed()
        self.assertIn("self-signed", await self.refusal("localhost", port))

    async def serve_self_signed(self):
        key = KeyPair.generate(size=2048)
        certificate = key.selfSignedCert(1, CN="localhost")
        self.assertEqual(certificate.getIssuer(), DN(CN="localhost"))
        endpoint = SSL4ServerEndpoint(reactor, 0, certificate.options(), interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Hello))
        self.addCleanup(port.stopListening)
        return port.getHost().port

    async def test_tls_1_0_is_refused(self):
        port = await self.serve("localhost", old=True)
        self.assertIn("does not speak TLS 1.2 or later", await self.refusal("localhost", port))

    async def test_a_certificate_without_names_is_refused(self):
        root = KeyPair.generate(size=2048)
        certificate = root.selfSignedCert(1, CN="localhost")
        trusted = TLS(trustRootFromCertificates([certificate]))
        client = Client(reactor, tls=trusted)
        self.addCleanup(client.close)
        endpoint = SSL4ServerEndpoint(reactor, 0, certificate.options(), interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Hello))
        self.addCleanup(port.stopListening)
        got = await fetch(client, f"https://localhost:{port.getHost().port}/").ended
        self.flushLoggedErrors(SSL.Error)
        self.assertIn("the certificate is for no name, not for localhost", str(got.error))

    async def test_the_systems_authorities_are_the_default(self):
        port = await self.serve("localhost")
        client = Client(reactor)
        self.addCleanup(client.close)
        got = await fetch(client, f"https://localhost:{port}/").ended
        self.flushLoggedErrors(SSL.Error)
        self.assertEqual(got.outcome, "TLSFailed")

    async def test_a_server_without_tls_is_an_error(self):
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Hello))
        self.addCleanup(port.stopListening)
        words = await self.refusal("localhost", port.getHost().port)
        self.assertIn("wrong version number", words)
