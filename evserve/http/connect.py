"""Names resolved under guard: addresses that only this network can reach are not let through.

The check sits where the connection gets its address, not before: a redirect, a name with two
records and a name that changes its mind (DNS rebinding) all have to come past it.

Which addresses only this network can reach, however they are wrapped up.

`ipaddress` calls 6to4 and NAT64 addresses global, but what they lead to is the IPv4 address
inside: RFC 3056 and RFC 6052.

TLS as a client: 1.2 at least, the chain and the name verified, and a reason when they are not.

OpenSSL says "certificate verify failed" and no more. What it knew is noted while it verifies.

What went wrong with a connection, in words for people.
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
from twisted.internet import error as errors
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
    brief,
)
from evserve.http.url import Origin


# RFC 6761, section 6.3; RFC 6762; RFC 8375; reserved by ICANN in 2024. And no name of the public
# Internet is without a dot.
_PRIVATE_NAMES = (".localhost", ".local", ".home.arpa", ".internal")
_ANY = "host"  # a name that no endpoint refuses


@implementer(IStreamClientEndpoint)
@define(eq=False)
class GuardedEndpoint:
    """Connects to public addresses of a host and to no other."""

    _reactor: Any
    _host: str
    _port: int
    _timeout: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See IStreamClientEndpoint; fails with PrivateAddress."""
        if _is_literal(self._host):
            if not is_public(self._host):
                return fail(PrivateAddress(f"{self._host} is not a public address"))
            return literal_endpoint(self._reactor, self._host, self._port, self._timeout).connect(
                protocolFactory
            )
        refused: list[str] = []
        resolver = _Resolver(self._reactor, self._host, refused)
        endpoint = HostnameEndpoint(resolver, _ANY, self._port, timeout=self._timeout)
        return endpoint.connect(protocolFactory).addErrback(self._explain, refused)

    def _explain(self, failure: Failure, refused: list[str]) -> Failure:
        if not refused:
            return failure
        addresses = ", ".join(refused)
        return Failure(PrivateAddress(f"{self._host} is {addresses}: not a public address"))


def plain_endpoint(reactor: Any, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    """Return an endpoint without guard."""
    if _is_literal(host):
        return literal_endpoint(reactor, host, port, timeout)
    return HostnameEndpoint(_Resolver(reactor, host), _ANY, port, timeout=timeout)


def literal_endpoint(reactor: Any, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    """Return an endpoint for an address, which no thread need look up."""
    kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
    return kind(reactor, host, port, timeout=timeout)


def is_private_name(host: str) -> bool:
    """Whether a name is private without being looked up: all that can be told before a proxy."""
    if _is_literal(host):
        return not is_public(host)
    name = host.rstrip(".")
    return "." not in name or name.endswith(_PRIVATE_NAMES)


def _is_literal(host: str) -> bool:
    return isIPAddress(host) or isIPv6Address(host)


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
@define(eq=False, slots=False)
class _Resolver:
    """A reactor, to an endpoint, that resolves one host, whatever it is asked for.

    The endpoint itself would refuse names that are none by the book, such as `my_app` and
    `r1---sn-a.example.com`, but that servers have.  refused: if given, private addresses are
    dropped, and remembered there.
    """

    _reactor: Any
    _host: str
    _refused: list[str] | None = None

    def __attrs_post_init__(self) -> None:
        alsoProvides(self, IReactorTCP, IReactorTime)  # by way of __getattr__

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
            receiver = _Filter(resolutionReceiver, self._refused)
        return self._reactor.nameResolver.resolveHostName(
            receiver, self._host, portNumber, addressTypes, transportSemantics
        )


@implementer(IResolutionReceiver)
@define(eq=False)
class _Filter:
    """Passes the public addresses on."""

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


_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, section 2.5.5.1, deprecated


def is_public(address: str) -> bool:
    """Whether an IP address in text form is one of the public Internet."""
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False  # fe80::1%eth0 and the like


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return _is_public(inner)
        if address in _NAT64_LOCAL:
            return False
    return address.is_global and not address.is_multicast


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


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


_OLD_TLS = ("unsupported protocol", "protocol version", "wrong version number", "version too low")


def explain_connecting(failure: Failure, origin: Origin) -> FetchError:
    """Return the error for a connection to `origin` that was never made."""
    error = failure.value
    if isinstance(error, FetchError):
        return error
    if isinstance(error, errors.DNSLookupError):
        return ConnectFailed(f"the name {origin.host} cannot be resolved")
    if isinstance(error, CancelledError):
        return Cancelled("given up while connecting")
    if isinstance(error, errors.TimeoutError | errors.TCPTimedOutError):
        return ConnectTimeout(f"{origin} does not answer")
    if isinstance(error, errors.ConnectionRefusedError):
        return ConnectFailed(f"{origin} refuses connections")
    return ConnectFailed(f"cannot connect to {origin}: {str(error) or type(error).__name__}")


def explain_loss(failure: Failure, transport: object) -> FetchError:
    """Return the error for a connection that ended, TLS's reasons included."""
    error = failure.value
    if isinstance(error, SSL.Error):
        return TLSFailed(verdict_of(transport) or _openssl(error))
    if isinstance(error, errors.ConnectionDone):
        return ConnectionLost("the connection was closed")
    return ConnectionLost(f"the connection broke: {str(error).rstrip('.')}")


def _openssl(error: SSL.Error) -> str:
    details = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = "; ".join(str(each[-1]) for each in details) or "the handshake failed"
    if any(old in words for old in _OLD_TLS):
        return f"the server does not speak TLS 1.2 or later ({words})"
    return f"TLS failed: {words}"
