"""Names resolved under guard: addresses that only this network can reach are not let through.

The check sits where the connection gets its address, not before: a redirect, a name with two
records and a name that changes its mind (DNS rebinding) all have to come past it.
"""

from collections.abc import Sequence
from typing import Any

from attrs import define
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from evserve.http.addresses import is_public
from evserve.http.errors import PrivateAddress


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
