"""Certificates that are read again."""

from pathlib import Path

import trustme
from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.certificates import Certificates


END_OF_KEY = b"-----END EC PRIVATE KEY-----\n"


class CertificatesTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.folder = self.folder.absolute()
        self.file = self.folder / "server.pem"
        self.issue()
        self.reactor = MemoryReactor()
        self.certificates = Certificates()

    def issue(self):
        """Write a new certificate; return its serial number."""
        issued = trustme.CA().issue_cert("localhost")
        self.file.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        return load_certificate(
            FILETYPE_PEM, issued.cert_chain_pems[0].bytes()
        ).get_serial_number()

    def listen(self, written):
        endpoint = self.certificates.endpoint(self.reactor, written, "127.0.0.1")
        endpoint.listen(Factory.forProtocol(Protocol))
        ((_, self.factory, _, _),) = self.reactor.tcpServers

    def served(self):
        """Return the serial number of the certificate that a new connection gets."""
        protocol = self.factory.buildProtocol(None)
        return self.factory._creatorCallable(protocol).get_certificate().get_serial_number()

    def strings(self):
        ssl = f"ssl:0:privateKey={self.file}:certKey={self.file}"
        return [ssl, f"haproxy:{ssl}", f"tls:{self.folder}:0"]

    def test_new_connections_get_the_new_one(self):
        for written in self.strings():
            self.reactor.tcpServers.clear()
            self.listen(written)
            new = self.issue()
            self.assertNotEqual(self.served(), new)
            self.assertEqual(self.certificates.read_again(), [])
            self.assertEqual(self.served(), new)

    def test_a_broken_one_is_a_line_and_the_old_one_stays(self):
        good = self.file.read_bytes()
        key, _, chain = good.partition(END_OF_KEY)
        other = trustme.CA().issue_cert("localhost").private_key_pem.bytes()
        for written in self.strings():
            self.file.write_bytes(good)
            self.reactor.tcpServers.clear()
            self.certificates = Certificates()
            self.listen(written)
            before = self.served()
            for broken in (b"", b"no certificate", key + END_OF_KEY + chain[:-200], other + chain):
                self.file.write_bytes(broken)
                (line,) = self.certificates.read_again()
                self.assertTrue(line.startswith(f"{written}: "), line)
                self.assertEqual(self.served(), before)
            self.file.unlink()
            self.assertEqual(len(self.certificates.read_again()), 1)
            self.assertEqual(self.served(), before)

    def test_one_that_is_broken_keeps_no_other_from_being_read(self):
        self.listen(self.strings()[0])
        factory = self.factory
        bad = self.folder / "bad.pem"
        bad.write_bytes(self.file.read_bytes())
        self.reactor.tcpServers.clear()
        self.listen(f"ssl:0:privateKey={bad}:certKey={bad}")
        bad.write_bytes(b"")
        new = self.issue()
        self.assertEqual(len(self.certificates.read_again()), 1)
        self.factory = factory
        self.assertEqual(self.served(), new)

    def test_a_relative_path_is_that_of_the_folder_at_the_start(self):
        self.listen(f"ssl:0:privateKey={self.file}:certKey={self.file}")
        relative = self.certificates._endpoints[0]
        relative.written = "ssl:0:privateKey=server.pem:certKey=server.pem"
        relative.folder = self.folder
        here = Path.cwd()
        self.assertEqual(self.certificates.read_again(), [])
        self.assertEqual(Path.cwd(), here)

    def test_an_endpoint_without_tls_has_none(self):
        self.certificates.endpoint(self.reactor, "tcp:0", "127.0.0.1").listen(Factory())
        self.assertEqual(self.certificates.read_again(), [])
