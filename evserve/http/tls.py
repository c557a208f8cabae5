"""TLS as a client: 1.2 at least, the chain and the name verified, and a reason when they are not.

OpenSSL says "certificate verify failed" and no more. What it knew is noted while it verifies.
"""

from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, field
from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion, platformTrust
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from evserve.http.errors import BadURL, brief


_VERIFY = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
# The codes of openssl/x509_vfy.h that people meet.
_REASONS = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the certificate's authority is not trusted here",
    20: "the certificate's issuer is not trusted here",
    21: "the certificate's issuer is not trusted here",
    23: "the certificate was revoked",
    26: "the certificate is not one for servers",
}


# Not a connection's app data: that is Twisted's.
_verdicts: WeakKeyDictionary[SSL.Connection, str] = WeakKeyDictionary()


def verdict_of(transport: object) -> str:
    """Return why the certificate was refused on a TLS transport, or an empty string."""
    handle = transport.getHandle() if isinstance(transport, TLSMemoryBIOProtocol) else None
    return _verdicts.get(handle, "") if isinstance(handle, SSL.Connection) else ""


@implementer(IOpenSSLClientConnectionCreator)
class HostTLS:
    """Makes TLS connections to one host; raises BadURL if it can have no certificate."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host
        self._is_address = isIPAddress(host) or isIPv6Address(host)
        try:
            self._id = IPAddress_ID(host) if self._is_address else DNS_ID(host.rstrip("."))
        except ValueError:  # URLs know more characters than certificates do
            raise BadURL(f"{brief(host)!r} is no name that a certificate could be for") from None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See IOpenSSLClientConnectionCreator."""
        connection = SSL.Connection(self._context, None)
        if not self._is_address:  # RFC 6066, section 3: names only
            connection.set_tlsext_host_name(self._host.rstrip(".").encode("ascii"))
        connection.set_verify(_VERIFY, self._verify)
        return connection

    def _verify(
        self, connection: SSL.Connection, certificate: X509, code: int, depth: int, ok: int
    ) -> bool:
        reason = ""
        if not ok:
            reason = _REASONS.get(code, f"the certificate is not to be trusted ({code})")
        elif depth == 0:
            reason = self._mismatch(certificate)
        if reason:
            _verdicts[connection] = reason
        return not reason

    def _mismatch(self, certificate: X509) -> str:
        try:
            verify_service_identity(extract_patterns(certificate), [self._id], [])
        except (VerificationError, CertificateError):
            return f"the certificate is for {_names(certificate)}, not for {self._host}"
        return ""


@define(eq=False)
class TLS:
    """One context for all, and what is made of it for each host."""

    _trust: Any = None  # an IOpenSSLTrustRoot; the system's by default
    _hosts: dict[str, HostTLS] = field(factory=dict, init=False)
    _context: SSL.Context | None = field(default=None, init=False)
    _limit: int = 1000

    def of(self, host: str) -> HostTLS:
        """Return what makes connections to `host`."""
        made = self._hosts.get(host)
        if made is None:
            if len(self._hosts) >= self._limit:
                self._hosts.clear()
            made = self._hosts[host] = HostTLS(self._shared(), host)
        return made

    def _shared(self) -> SSL.Context:
        if self._context is None:
            options = CertificateOptions(
                trustRoot=platformTrust() if self._trust is None else self._trust,
                raiseMinimumTo=TLSVersion.TLSv1_2,
            )
            self._context = options.getContext()
        return self._context


def _names(certificate: X509) -> str:
    try:
        extensions = certificate.to_cryptography().extensions
        names = extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):
        return "no name"
    found = [*names.get_values_for_type(DNSName), *names.get_values_for_type(IPAddress)]
    return ", ".join(map(str, found)) or "no name"
