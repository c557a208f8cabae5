"""The beanstalk engine over TLS and UNIX sockets, against a queue server."""

import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    trustRootFromCertificates,
)
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from evserve.events import BadQueueURL, Depth, QueueClosed, open_queue
from evserve.events.beanstalk import endpoints
from evserve.queue.broker import Broker
from evserve.queue.core import Core
from evserve.queue.protocol import QueueFactory
from evserve.queue.stats import Statistics
from evserve.queue.store import InlineWriter, MemoryStore
from tests.integration.processes import spawn


def write(test, name, *pems):
    path = Path(test.mktemp()).absolute()
    path.write_bytes(b"".join(pem.bytes() for pem in pems))
    return path


class EndpointTestCase(TestCase):
    def open(self, url):
        queue = open_queue(url, reactor)
        self.addCleanup(queue.close)
        return queue

    async def refusal(self, url):
        """Return why the first attempt to put at `url` fails, as the log or the error says."""
        queue, told = self.open(url), Deferred()

        def tell(message):
            if not told.called:
                told.callback(message)

        def observe(event):
            if event.get("server") == queue.server:
                tell(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        queue.put("mail", b"").addErrback(lambda failure: tell(failure.getErrorMessage()))
        message = await told
        await deferLater(reactor, 0)  # what was logged is in the middle of something
        await queue.close()
        self.assertNotIn("\n", message)
        return message

    async def check(self, url):
        """Check that a queue at `url` can be used."""
        queue = self.open(url)
        waiting = queue.reserve_many(["mail"], 2)
        await queue.put("mail", b"x" * 50_000)
        [event] = await waiting
        self.assertEqual(len(event.body), 50_000)
        await queue.ack(event)
        self.assertEqual(await queue.depth("mail"), Depth())
        await queue.close()


class TLSTests(EndpointTestCase):
    def setUp(self):
        self.authority = trustme.CA()
        self.ca = write(self, "ca", self.authority.cert_pem)

    def listen(self, *names, **options):
        """Listen with TLS in this process; return the port."""
        issued = self.authority.issue_cert(*(names or ["localhost"]))
        own = PrivateCertificate.loadPEM(issued.private_key_and_cert_chain_pem.bytes())
        tls = CertificateOptions(own.privateKey.original, own.original, **options)
        return self.serve(
            lambda factory: reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
        )

    def serve(self, listen):
        """Listen with `listen(factory)`; return the port."""
        store = MemoryStore()
        broker = Broker(Core(), store, InlineWriter(store), reactor)
        factory = QueueFactory()
        factory.broker, factory.statistics = broker, Statistics(broker.core, 0)
        port = listen(factory)
        self.addCleanup(broker.close)
        self.addCleanup(port.stopListening)
        return port.getHost().port

    async def test_a_server_started_with_ssl_is_used_with_a_private_ca(self):
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        pem = write(self, "server", issued.private_key_and_cert_chain_pem)
        listen = f"ssl:0:privateKey={pem}:interface=127.0.0.1"
        address = await spawn(self, "queue", "--listen", listen).listening("ssl")
        await self.check(f"beanstalk+tls://{address}?ca={self.ca}")
        port = address.rpartition(":")[2]
        await self.check(f"beanstalk+tls://localhost:{port}?ca={self.ca}")

    async def test_an_authority_that_is_not_trusted_is_named(self):
        port = self.listen()
        message = await self.refusal(f"beanstalk+tls://localhost:{port}")
        self.assertEqual(
            message,
            f"cannot reach the queue at localhost:{port}: the authority of its certificate is not "
            "trusted (?ca=FILE names one that is); trying again",
        )

    async def test_the_platforms_authorities_are_trusted(self):
        trusted = trustRootFromCertificates([Certificate.loadPEM(self.ca.read_bytes())])
        with patch.object(endpoints, "platformTrust", lambda: trusted):
            await self.check(f"beanstalk+tls://localhost:{self.listen()}")

    async def test_a_certificate_for_another_host_is_refused(self):
        port = self.listen("example.org")
        for host in ("localhost", "127.0.0.1"):
            message = await self.refusal(f"beanstalk+tls://{host}:{port}?ca={self.ca}")
            self.assertIn(f"{host}:{port}: its certificate is not for {host}", message)

    async def test_a_server_without_tls_is_told(self):
        port = self.serve(lambda factory: reactor.listenTCP(0, factory, interface="127.0.0.1"))
        url = f"beanstalk+tls://127.0.0.1:{port}?ca={self.ca}"
        with patch.object(endpoints, "HANDSHAKE_TIMEOUT", 0.1):
            message = await self.refusal(url)
        self.assertIn(f"127.0.0.1:{port}: no answer to TLS: does it speak that?", message)

    async def test_an_answer_that_is_not_tls_is_told_at_once(self):
        class Refusing(Protocol):
            def connectionMade(self):
                self.transport.write(b"BAD_FORMAT\r\n")

        refusing = Factory.forProtocol(Refusing)
        port = self.serve(lambda _: reactor.listenTCP(0, refusing, interface="127.0.0.1"))
        message = await self.refusal(f"beanstalk+tls://127.0.0.1:{port}?ca={self.ca}")
        self.assertIn(f"127.0.0.1:{port}: it does not speak TLS (", message)

    async def test_a_server_may_ask_for_a_certificate(self):
        trusted = trustRootFromCertificates([Certificate.loadPEM(self.ca.read_bytes())])
        url = f"beanstalk+tls://localhost:{self.listen(trustRoot=trusted)}?ca={self.ca}"
        own = self.authority.issue_cert("worker.example.org")
        both = write(self, "both", own.private_key_and_cert_chain_pem)
        await self.check(f"{url}&cert={both}")
        cert = write(self, "cert", *own.cert_chain_pems)
        key = write(self, "key", own.private_key_pem)
        await self.check(f"{url}&cert={cert}&key={key}")
        # With TLS 1.3 the client learns of it later, perhaps by a reset.
        self.assertIn("lost the connection to the queue at localhost:", await self.refusal(url))
        other = write(
            self, "other", self.authority.issue_cert("other.example.org").private_key_pem
        )
        for parameters, problem in (
            (f"cert={cert}", f"key: {cert}: not a private key without a password (PEM)"),
            (f"cert={cert}&key={other}", "key: it is not that of the certificate"),
            (f"key={key}", "key: there is no cert that it belongs to"),
            ("ca=/nowhere/ca.pem", "ca: /nowhere/ca.pem: No such file or directory"),
            (f"ca={key}", f"ca: {key}: not a certificate (PEM)"),
            ("verify=0", "unknown parameter 'verify' (there are only ca, cert, key; "),
        ):
            wrong = f"beanstalk+tls://localhost?{parameters}"
            error = self.assertRaises(BadQueueURL, open_queue, wrong, reactor)
            self.assertIn(f"{wrong!r}: {problem}", str(error))

    async def test_closing_ends_a_handshake(self):
        accepted, ended = Deferred(), Deferred()

        class Silent(Protocol):
            def connectionMade(self):
                accepted.callback(None)

            def connectionLost(self, reason):
                ended.callback(None)

        silent = Factory.forProtocol(Silent)
        port = self.serve(lambda _: reactor.listenTCP(0, silent, interface="127.0.0.1"))
        queue = self.open(f"beanstalk+tls://127.0.0.1:{port}?ca={self.ca}")
        put = queue.put("mail", b"")
        await accepted
        await queue.close()
        await self.assertFailure(put, QueueClosed)
        await ended


class UNIXTests(EndpointTestCase):
    async def test_a_server_on_a_socket_is_used(self):
        folder = tempfile.mkdtemp()  # trial's own folders have too long names for a socket
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/queue?1"
        await spawn(self, "queue", "--listen", f"unix:{path}").listening("unix")
        await self.check(f"beanstalk+unix://{folder}/queue%3F1")
        with chdir(folder):
            await self.check("beanstalk+unix:queue%3F1")

    async def test_a_wrong_path_is_named(self):
        message = await self.refusal("beanstalk+unix:///nowhere/queue.sock")
        self.assertIn("cannot reach the queue at /nowhere/queue.sock: ", message)
        self.assertIn("No such file or directory", message)
        plain = Path(self.mktemp())
        plain.touch()
        self.assertIn("Connection refused", await self.refusal(f"beanstalk+unix:{plain}"))

    def test_a_socket_has_a_path_and_no_host(self):
        for url in ("beanstalk+unix:", "beanstalk+unix://host/path", "beanstalk+unix:///a?ca=b"):
            error = self.assertRaises(BadQueueURL, open_queue, url, reactor)
            self.assertIn(repr(url), str(error))
