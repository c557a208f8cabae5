"""How connections are made: endpoints, private addresses, TLS, and what can go wrong.

Private addresses are refused where a connection gets its address, not before. This covers
redirects, names with several addresses, and names that change their address (DNS rebinding).
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, field
from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet import error as twisted_errors
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import CertificateOptions, TLSVersion, platformTrust
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from evserve.http.errors import (
    BadURL,
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FetchError,
    PrivateAddress,
    TLSFailed,
    shorten,
)
from evserve.http.url import Origin


# RFC 6761, section 6.3; RFC 6762; RFC 8375; reserved by ICANN in 2024.
_PRIVATE_NAMES = (".localhost", ".local", ".home.arpa", ".internal")
_ANY_NAME = "host"  # accepted by every endpoint
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_IPV4_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, section 2.5.5.1, deprecated

_VERIFY = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
# The common codes of openssl/x509_vfy.h.
_VERIFY_ERRORS = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the certificate's authority is not trusted here",
    20: "the certificate's issuer is not trusted here",
    21: "the certificate's issuer is not trusted here",
    23: "the certificate was revoked",
    26: "the certificate is not one for servers",
}
# OpenSSL's words for a server with an old version: its errors have no codes in pyOpenSSL.
_OLD_TLS = ("unsupported protocol", "protocol version", "wrong version number", "version too low")


def endpoint_for(reactor: Any, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    """Return an endpoint for any address."""
    if _is_address(host):  # needs no thread to look it up
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        return kind(reactor, host, port, timeout=timeout)
    return HostnameEndpoint(_Resolver(reactor, host), _ANY_NAME, port, timeout=timeout)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class PublicEndpoint:
    """Connects to public addresses only, and fails with PrivateAddress for others."""

    _reactor: Any
    _host: str
    _port: int
    _timeout: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        if _is_address(self._host):
            if not is_public(self._host):
                return fail(PrivateAddress(f"{self._host} is not a public address"))
            return endpoint_for(self._reactor, self._host, self._port, self._timeout).connect(
                protocolFactory
            )
        refused: list[str] = []
        resolver = _Resolver(self._reactor, self._host, refused)
        endpoint = HostnameEndpoint(resolver, _ANY_NAME, self._port, timeout=self._timeout)
        return endpoint.connect(protocolFactory).addErrback(self._explain, refused)

    def _explain(self, failure: Failure, refused: list[str]) -> Failure:
        if not refused:
            return failure
        addresses = ", ".join(refused)
        return Failure(PrivateAddress(f"{self._host} is {addresses}: not a public address"))


def is_private_name(host: str) -> bool:
    """Whether a host is private without being looked up, which a proxy does elsewhere."""
    if _is_address(host):
        return not is_public(host)
    name = host.rstrip(".")
    return "." not in name or name.endswith(_PRIVATE_NAMES)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet.

    `ipaddress` calls 6to4 (RFC 3056) and NAT64 (RFC 6052) addresses global, but they lead to the
    IPv4 address that they contain.
    """
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False  # fe80::1%eth0 and the like


@define(eq=False)
class TLS:
    """TLS 1.2 or later for clients, with verified certificates and host names.

    trust: an IOpenSSLTrustRoot instead of the system's.
    """

    _trust: Any = None
    _hosts: dict[str, "_HostTLS"] = field(factory=dict, init=False)
    _context: SSL.Context | None = field(default=None, init=False)
    _limit: int = 1000  # of hosts remembered

    def for_host(self, host: str) -> "_HostTLS":
        """Return what makes connections to `host`. Raises BadURL if it can have no certificate."""
        made = self._hosts.get(host)
        if made is None:
            if len(self._hosts) >= self._limit:
                self._hosts.clear()
            if self._context is None:
                self._context = CertificateOptions(
                    trustRoot=platformTrust() if self._trust is None else self._trust,
                    raiseMinimumTo=TLSVersion.TLSv1_2,
                ).getContext()
            made = self._hosts[host] = _HostTLS(self._context, host)
        return made


def explain_connecting(failure: Failure, origin: Origin) -> FetchError:
    """Return the error for a connection to `origin` that was not made."""
    error = failure.value
    if isinstance(error, FetchError):
        return error
    if isinstance(error, twisted_errors.DNSLookupError):
        return ConnectFailed(f"the name {origin.host} cannot be resolved")
    if isinstance(error, CancelledError):
        return Cancelled("cancelled while connecting")
    if isinstance(error, twisted_errors.TimeoutError | twisted_errors.TCPTimedOutError):
        return ConnectTimeout(f"{origin} does not answer")
    if isinstance(error, twisted_errors.ConnectionRefusedError):
        return ConnectFailed(f"{origin} refuses connections")
    return ConnectFailed(f"cannot connect to {origin}: {str(error) or type(error).__name__}")


def explain_loss(failure: Failure, transport: object) -> FetchError:
    """Return the error for a connection that ended, with the reason of a failed handshake."""
    error = failure.value
    if isinstance(error, SSL.Error):
        handle = transport.getHandle() if isinstance(transport, TLSMemoryBIOProtocol) else None
        reason = _verify_errors.get(handle) if isinstance(handle, SSL.Connection) else None
        if reason is not None:
            return TLSFailed(reason)
        details = error.args[0] if error.args and isinstance(error.args[0], list) else []
        words = "; ".join(str(each[-1]) for each in details) or "the handshake failed"
        if any(old in words for old in _OLD_TLS):
            return TLSFailed(f"the server does not speak TLS 1.2 or later ({words})")
        return TLSFailed(f"TLS failed: {words}")
    if isinstance(error, twisted_errors.ConnectionDone):
        return ConnectionLost("the connection was closed")
    return ConnectionLost(f"the connection broke: {str(error).rstrip('.')}")


def _is_address(host: str) -> bool:
    return isIPAddress(host) or isIPv6Address(host)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64 or address in _IPV4_COMPATIBLE:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        elif address.teredo:
            inner = address.teredo[1]
        if inner is not None:
            return _is_public(inner)
        if address in _NAT64_LOCAL:
            return False
    return address.is_global and not address.is_multicast


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
@define(eq=False, slots=False)
class _Resolver:
    """The reactor, with a resolver that looks up one host whatever it is asked for.

    An endpoint refuses names such as `my_app` and `r1---sn-a.example.com`, which no standard
    allows but servers have. It gets another name, and connects to the addresses of this host.

    refused: a list to add private addresses to, which are dropped then.
    """

    _reactor: Any
    _host: str
    _refused: list[str] | None = None

    def __attrs_post_init__(self) -> None:
        alsoProvides(self, IReactorTCP, IReactorTime)  # through __getattr__

    @property
    def nameResolver(self) -> "_Resolver":
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def installNameResolver(self, resolver: Any) -> Any:
        return self._reactor.installNameResolver(resolver)

    def resolveHostName(  # the interface's own signature
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        receiver = resolutionReceiver
        if self._refused is not None:
            receiver = _PublicAddresses(resolutionReceiver, self._refused)
        return self._reactor.nameResolver.resolveHostName(
            receiver, self._host, portNumber, addressTypes, transportSemantics
        )


@implementer(IResolutionReceiver)
@define(eq=False)
class _PublicAddresses:
    """Passes public addresses on, and adds others to `refused`."""

    _receiver: Any
    _refused: list[str]

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: Any) -> None:
        if is_public(address.host):
            self._receiver.addressResolved(address)
        else:
            self._refused.append(address.host)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


# OpenSSL's error says only "certificate verify failed", so the reason is noted while it verifies.
# Not in the connection's app data, which Twisted uses.
_verify_errors: WeakKeyDictionary[SSL.Connection, str] = WeakKeyDictionary()


@implementer(IOpenSSLClientConnectionCreator)
class _HostTLS:
    """Makes TLS connections to one host."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host
        self._is_address = _is_address(host)
        try:
            self._id = IPAddress_ID(host) if self._is_address else DNS_ID(host.rstrip("."))
        except ValueError:  # URLs allow more characters than certificates
            raise BadURL(f"{shorten(host)!r} cannot be a name in a certificate") from None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
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
            reason = _VERIFY_ERRORS.get(code, f"the certificate is not to be trusted ({code})")
        elif depth == 0:
            try:
                verify_service_identity(extract_patterns(certificate), [self._id], [])
            except (VerificationError, CertificateError):
                reason = f"the certificate is for {_names(certificate)}, not for {self._host}"
        if reason:
            _verify_errors[connection] = reason
        return not reason


def _names(certificate: X509) -> str:
    try:
        extensions = certificate.to_cryptography().extensions
        names = extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):
        return "no name"
    found = [*names.get_values_for_type(DNSName), *names.get_values_for_type(IPAddress)]
    return ", ".join(map(str, found)) or "no name"
