"""A certificate authority for the tests that need TLS."""

import trustme
from attrs import frozen
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
)


NAME = "localhost"


@frozen
class Certificates:
    """A server's certificate, and that of the authority that a client must trust."""

    server_pem: bytes  # the private key and the chain
    authority_pem: bytes

    def server_options(self) -> CertificateOptions:
        return PrivateCertificate.loadPEM(self.server_pem).options()

    def client_options(self):
        return optionsForClientTLS(NAME, Certificate.loadPEM(self.authority_pem))


def make_certificates() -> Certificates:
    authority = trustme.CA()
    server = authority.issue_cert(NAME)
    return Certificates(server.private_key_and_cert_chain_pem.bytes(), authority.cert_pem.bytes())
