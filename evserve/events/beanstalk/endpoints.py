"""Where a server is: from the URL of a queue to an endpoint on TCP, TLS or a UNIX socket."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from attrs import define, field
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from OpenSSL.crypto import X509, PKey
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from evserve.events.beanstalk.connection import explain_loss
from evserve.events.engines import QueueURL
from evserve.events.errors import BadQueueURL


T = TypeVar("T")

DEFAULT_PORT: Final = 11300

HANDSHAKE_TIMEOUT: Final = 3.0
"""Seconds for a handshake: a server without TLS waits for the rest of what it takes for a line."""

# The common codes of openssl/x509_vfy.h.
_VERIFY_ERRORS: Final = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed (?ca=FILE trusts it)",
    19: "the authority of its certificate is not trusted (?ca=FILE names one that is)",
    20: "the authority of its certificate is not trusted (?ca=FILE names one that is)",
    21: "the authority of its certificate is not trusted (?ca=FILE names one that is)",
}

# What OpenSSL says of an answer that is not TLS.
_NO_TLS: Final = ("wrong version number", "packet length too long", "record layer failure")


def make_endpoint(url: QueueURL, reactor: Any) -> tuple[IStreamClientEndpoint, str]:
    """Return the endpoint that `url` names, and the name of its server in messages.

    Raises BadQueueURL.
    """
    if url.scheme == "beanstalk+unix":
        return _make_unix(url, reactor)
    with_tls = url.scheme == "beanstalk+tls"
    url.allow_parameters(*(("ca", "cert", "key") if with_tls else ()))
    if not url.host or url.path not in ("", "/"):
        raise BadQueueURL(f"{url.shown} is not a queue URL: {url.scheme}://HOST:PORT is expected")
    host, port = url.host, url.port or DEFAULT_PORT
    endpoint: IStreamClientEndpoint
    if isIPv6Address(host):
        endpoint = TCP6ClientEndpoint(reactor, host, port)
    elif isIPAddress(host):
        endpoint = TCP4ClientEndpoint(reactor, host, port)
    else:
        endpoint = HostnameEndpoint(reactor, host, port)
    if with_tls:
        endpoint = _TLSEndpoint(endpoint, _make_tls(url, host), reactor)
    return endpoint, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _make_unix(url: QueueURL, reactor: Any) -> tuple[IStreamClientEndpoint, str]:
    url.allow_parameters()
    if url.host or not url.path:
        expected = "beanstalk+unix:///absolute/path or beanstalk+unix:relative/path is expected"
        raise BadQueueURL(f"{url.shown} is not a queue URL: {expected}")
    return UNIXClientEndpoint(reactor, url.path), url.path


def _make_tls(url: QueueURL, host: str) -> "_ClientTLS":
    trust, own = platformTrust(), dict[str, Any]()
    if (ca := url.parameters.get("ca")) is not None:
        authorities = _read(url, "ca", ca, _load_certificates)
        trust = trustRootFromCertificates([Certificate(each) for each in authorities])
    if (cert := url.parameters.get("cert")) is not None:
        certificate, *chain = _read(url, "cert", cert, _load_certificates)
        key = _read(url, "key", url.parameters.get("key", cert), _load_key)
        own = {"certificate": certificate, "extraCertChain": chain, "privateKey": key}
    elif "key" in url.parameters:
        raise BadQueueURL(f"{url.shown}: key: there is no cert that it belongs to")
    options = CertificateOptions(trustRoot=trust, raiseMinimumTo=TLSVersion.TLSv1_2, **own)
    try:
        return _ClientTLS(options.getContext(), host)
    except SSL.Error as error:
        raise BadQueueURL(f"{url.shown}: key: it is not that of the certificate") from error
    except ValueError as error:  # URLs allow more characters than certificates
        raise BadQueueURL(f"{url.shown}: {host} cannot be a name in a certificate") from error


def _read(url: QueueURL, name: str, path: str, load: Callable[[bytes], T]) -> T:
    """Return what `load` makes of the file that the parameter `name` names."""
    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise BadQueueURL(f"{url.shown}: {name}: {path}: {error.strerror}") from error
    except (TypeError, ValueError) as error:  # TypeError: it is encrypted
        what = "private key without a password" if name == "key" else "certificate"
        raise BadQueueURL(f"{url.shown}: {name}: {path}: not a {what} (PEM)") from error


def _load_certificates(pem: bytes) -> list[X509]:
    return [X509.from_cryptography(each) for each in load_pem_x509_certificates(pem)]


def _load_key(pem: bytes) -> PKey:
    key: Any = load_pem_private_key(pem, None)
    return PKey.from_cryptography_key(key)


@implementer(IOpenSSLClientConnectionCreator)
@define(eq=False)
class _ClientTLS:
    """Makes TLS connections to `host`, with a verified certificate and host name.

    OpenSSL's error says only "certificate verify failed", so `refusal` notes why the last
    certificate was refused. evserve.http, which knows nothing of queues, has the like.
    """

    context: SSL.Context
    host: str
    refusal: str | None = field(init=False, default=None)
    _is_address: bool = field(init=False)
    _id: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._is_address = isIPAddress(self.host) or isIPv6Address(self.host)
        self._id = IPAddress_ID(self.host) if self._is_address else DNS_ID(self.host.rstrip("."))

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        self.refusal = None
        connection = SSL.Connection(self.context, None)
        if not self._is_address:  # RFC 6066, section 3: names only
            connection.set_tlsext_host_name(self.host.rstrip(".").encode("idna"))
        connection.set_verify(SSL.VERIFY_PEER, self._verify)
        return connection

    def _verify(
        self, connection: SSL.Connection, certificate: X509, code: int, depth: int, ok: int
    ) -> bool:
        if not ok:
            self.refusal = _VERIFY_ERRORS.get(code, f"its certificate is not valid ({code})")
        elif depth == 0:
            try:
                verify_service_identity(extract_patterns(certificate), [self._id], [])
            except (VerificationError, CertificateError):
                self.refusal = f"its certificate is not for {self.host}"
        return self.refusal is None

    def explain(self, error: BaseException | None) -> str:
        """Return why a handshake failed."""
        if self.refusal is not None:
            return self.refusal
        words = explain_loss(error)
        if isinstance(error, SSL.Error) and any(each in words for each in _NO_TLS):
            return f"it does not speak TLS ({words})"
        return f"no TLS: {words}"


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _TLSEndpoint:
    """Connects once the handshake is done: until then nothing may be sent."""

    endpoint: IStreamClientEndpoint
    tls: _ClientTLS
    clock: IReactorTime

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        def cancel(_: Deferred[IProtocol]) -> None:
            attempt.cancel()
            handshake.abort()

        connected: Deferred[IProtocol] = Deferred(cancel)
        handshake = _Handshake(protocolFactory, self.tls, self.clock, connected)
        attempt = wrapClientTLS(self.tls, self.endpoint).connect(
            Factory.forProtocol(lambda: handshake)
        )
        attempt.addErrback(handshake.fail)
        return connected


class _HandshakeFailed(Exception):  # noqa: N818 - it says what happened, as Twisted's errors do
    """The server was reached, and TLS could not be spoken with it."""


@implementer(IHandshakeListener)
@define(eq=False, slots=False)
class _Handshake(Protocol):
    """Waits for the end of a handshake, and leaves the transport to a protocol of `factory`."""

    protocols: IProtocolFactory
    tls: _ClientTLS
    clock: IReactorTime
    done: Deferred[IProtocol]
    _timer: IDelayedCall = field(init=False)

    @override
    def connectionMade(self) -> None:
        self._timer = self.clock.callLater(HANDSHAKE_TIMEOUT, self._time_out)

    def _time_out(self) -> None:
        self.fail(Failure(_HandshakeFailed("no answer to TLS: does it speak that?")))
        self.abort()

    def handshakeCompleted(self) -> None:
        self._timer.cancel()
        transport: Any = self.transport
        protocol = cast("IProtocol", self.protocols.buildProtocol(transport.getPeer()))
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)
        self.done.callback(protocol)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer.active():
            self._timer.cancel()
        self.fail(Failure(_HandshakeFailed(self.tls.explain(reason.value))))

    def fail(self, reason: Failure) -> None:
        """Let the attempt fail, unless it was cancelled."""
        if not self.done.called:
            self.done.errback(reason)

    def abort(self) -> None:
        """End the connection, if there is one."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
