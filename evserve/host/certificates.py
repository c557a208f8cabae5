"""Certificates that are read again while their endpoints listen (`ssl:`, `tls:`).

The endpoint string is parsed once more, as at the start, and connections from then on get what
that has read. Those that are open keep the certificate with which they began.
"""

from contextlib import chdir
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from evserve.host.endpoints import EndpointError, parse_endpoint
from evserve.host.process import current_folder, explain


@define(eq=False)
class Certificates:
    """The endpoints of the process that have certificates."""

    _endpoints: "list[_TLSEndpoint]" = field(init=False, factory=list)

    def endpoint(self, reactor: Any, written: str, interface: str) -> IStreamServerEndpoint:
        """Return the endpoint of a string; raises EndpointError."""
        if written.removeprefix("haproxy:").partition(":")[0] not in ("ssl", "tls"):
            return parse_endpoint(reactor, written, interface)
        endpoint = _TLSEndpoint(reactor, written, interface)
        self._endpoints.append(endpoint)
        return parse_endpoint(endpoint, written, interface)

    def read_again(self) -> list[str]:
        """Read all certificates; return a line for each endpoint that keeps its old one."""
        return [line for each in self._endpoints if (line := each.read_again()) is not None]


@define(eq=False)
class _TLSEndpoint:
    """The reactor for one endpoint; `factory` is what listens, None until then.

    Relative paths in `written` are those of the folder in which the process was started.
    """

    reactor: Any
    written: str
    interface: str
    folder: Path | None = field(init=False, factory=current_folder)
    factory: TLSMemoryBIOFactory | None = field(init=False, default=None)

    def listenTCP(self, port: int, factory: Any, *args: Any, **kwargs: Any) -> Any:
        self.factory = factory
        return self.reactor.listenTCP(port, factory, *args, **kwargs)

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, *args: Any, **kwargs: Any
    ) -> Any:
        with_tls: Any = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, with_tls, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)

    def read_again(self) -> str | None:
        """Read the certificates; return why the old ones stay, None if they do not."""
        if self.factory is None:
            return None
        try:
            create = self._read()
        except EndpointError as error:
            return f"{self.written}: {error.reason}"
        except OSError as error:
            return f"{self.written}: {explain(error)}"
        self.factory._creatorCallable = create  # noqa: SLF001 - Twisted's ports keep their factory
        return None

    def _read(self) -> Any:
        """Return what makes OpenSSL's connections, with a certificate that was read now."""
        unused = _TLSEndpoint(_NoReactor(), self.written, self.interface)
        with chdir(self.folder or "."):  # which --rundir changes
            parsed = parse_endpoint(unused, self.written, self.interface)
            parsed.listen(Factory.forProtocol(Protocol))
        factory: Any = unused.factory
        create = factory._creatorCallable  # noqa: SLF001 - as above
        if create(factory.buildProtocol(None)).get_certificate() is None:  # an empty tls: folder
            raise EndpointError(self.written, "no certificate with its private key")
        return create


class _NoReactor:
    """Listens on nothing."""

    def listenTCP(self, *args: Any, **kwargs: Any) -> None:
        pass
