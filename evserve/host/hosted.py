"""Services of `twistd` plugins, which know nothing of evserve.

Such a service gets an Application of its own, as from `twistd`. It opens its ports by itself, with
the reactor that it imports, so Twisted's listening ports are made to report here when they start.
Each port that a plugin opens is announced, and its connections are counted, limited and drained.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

from attrs import define, field
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import (
    Application,
    IProcess,
    IService,
    IServiceCollection,
    Service,
)
from twisted.internet import tcp, udp, unix
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LegacyLogObserverWrapper, globalLogPublisher
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.log import ILogObserver as ILegacyLogObserver
from twisted.python.usage import UsageError
from typing_extensions import override
from zope.interface import alsoProvides

from evserve.host.config import ServiceConfig
from evserve.host.connections import ConnectionLimiter
from evserve.host.listener import ListenerService, format_address


# Every listening port of Twisted is of one of these classes, or inherits its startListening.
_PORT_CLASSES: tuple[Any, ...] = (tcp.Port, unix.Port, udp.Port)

_services: "list[HostedService]" = []  # from makeService to stopService
_active: "list[HostedService]" = []  # whose code runs now, the innermost last
_original: dict[Any, Callable[[Any], None]] = {}  # startListening of each class, while replaced


@define(eq=False)
class HostedFactory(Factory):
    """The factory of one port of a plugin; its connections count in the service's limiter."""

    limiter: ConnectionLimiter
    inner: IProtocolFactory

    noisy = False

    def __attrs_post_init__(self) -> None:
        if IProtocolNegotiationFactory.providedBy(self.inner):
            alsoProvides(self, IProtocolNegotiationFactory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @override
    def logPrefix(self) -> str:
        return self.limiter.logPrefix()

    @override
    def startFactory(self) -> None:
        self.inner.doStart()

    @override
    def stopFactory(self) -> None:
        self.inner.doStop()

    @override
    def buildProtocol(self, addr: Any) -> Any:
        return self.limiter.build_limited(self.inner, addr)


@define(eq=False)
class HostedService(ListenerService):
    """Runs the service of a `twistd` plugin below an Application that is the plugin's alone.

    `endpoints` is empty: the plugin opens its ports.
    """

    config: ServiceConfig
    application: Any = field(init=False)
    _observer: Any = field(init=False, default=None)  # the log observer that the plugin has set
    _has_ports: bool = field(init=False, default=False)
    _unstarted: list[Any] = field(init=False, factory=list)

    def make(self) -> None:
        """Call the plugin's makeService; raises whatever it raises."""
        self.application = Application(self.config.plugin.name)
        if not _services:
            _replace_start_listening()
        _services.append(self)
        with self._is_active():
            made = self.config.loaded.make_service(self.config.options, self.host)
            service = IService(made, None)
            if service is None:
                raise UsageError(f"makeService returned {made!r}, not a service")
            service.setServiceParent(self.application)
        self._unstarted = list(IServiceCollection(self.application))

    def share_process(self, process: Any) -> None:
        """Give `twistd` the user and the process name that the plugin has set, now and later."""
        own = IProcess(self.application)
        for name in ("uid", "gid", "processName"):
            wanted = getattr(own, name)
            if wanted is None:
                continue
            if getattr(process, name) not in (None, wanted):
                raise UsageError(
                    f"wants the {name} {wanted}, and another service {getattr(process, name)} "
                    "(run them in two processes)"
                )
            setattr(process, name, wanted)
        self.application.setComponent(IProcess, process)

    @contextmanager
    def _is_active(self) -> Iterator[None]:
        _active.append(self)
        try:
            yield
        finally:
            _active.remove(self)

    def _start(self, method: str, services: list[Any]) -> None:
        with self._is_active():
            for each in services:
                if each in self._unstarted:
                    self._unstarted.remove(each)
                _raise_errors(each)
                if not each.running:  # makeService may have started it
                    getattr(each, method)()

    def _forget(self) -> None:
        if self in _services:
            _services.remove(self)
            if not _services:
                _restore_start_listening()

    @override
    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._add_observer()
        self._start("privilegedStartService", list(IServiceCollection(self.application)))

    @override
    def startService(self) -> None:
        super().startService()
        self._add_observer()
        # From now on the Application starts what is added to it.
        application: Any = IService(self.application)
        services = list(application)
        Service.startService(application)
        self._start("startService", services)

    def _add_observer(self) -> None:
        """Let the plugin's log observer see what is logged, as well as the host's."""
        if self._observer is not None:
            return
        observer = self.application.getComponent(ILogObserver)
        if observer is None:
            legacy = self.application.getComponent(ILegacyLogObserver)
            observer = None if legacy is None else LegacyLogObserverWrapper(legacy)
        if observer is not None:
            self._observer = observer
            globalLogPublisher.addObserver(observer)

    @override
    async def _stop(self) -> None:
        """Let connections finish while the plugin's service still runs, then stop that."""
        await super()._stop()
        application: Any = IService(self.application)
        started = [each for each in application if each not in self._unstarted]
        Service.stopService(application)
        with self._is_active():
            stopping = [maybeDeferred(each.stopService) for each in reversed(started)]
        results = await DeferredList(stopping, consumeErrors=True)
        self._forget()
        if self._observer is not None:
            globalLogPublisher.removeObserver(self._observer)
        for succeeded, result in results:
            if not succeeded:
                result.raiseException()

    # Ports

    def limit(self, port: Any) -> None:
        """Put the limiter between a port that is about to listen and its factory."""
        # Below TLS, because closing a connection is TLS's business.
        outer, factory = None, port.factory
        while isinstance(factory, TLSMemoryBIOFactory):
            outer, factory = factory, factory.wrappedFactory
        if isinstance(factory, HostedFactory):  # TLS on two ports
            return
        limited: Any = HostedFactory(self.limiter, factory)
        if outer is None:
            port.factory = limited
        else:
            outer.wrappedFactory = limited

    def add(self, port: Any) -> None:
        """Announce a port that listens, and watch it until it closes."""
        is_stream = isinstance(port, tcp.Port)
        if is_stream:
            self.ports.append(port)
            self.limiter.descriptors.watch(port)
            if not self._has_ports:
                self._has_ports = True
                self.host.metrics.register(self.limiter)
        address = format_address(_kind(port), port.getHost())
        self.addresses.append(address)
        if self.running:
            self._announce(address)
        lost = port.connectionLost

        def connection_lost(*reason: Any) -> None:
            if address in self.addresses:
                self.addresses.remove(address)
            if port in self.ports:
                self.ports.remove(port)
            self.limiter.descriptors.forget(port)
            lost(*reason)

        port.connectionLost = connection_lost

    def has_on_stack(self, frame: FrameType) -> bool:
        """Whether a frame belongs to the plugin's package, or to one of its protocols."""
        module = self.config.plugin.module
        package = module.rpartition(".")[0] or module
        name = f"{frame.f_globals.get('__name__')}."
        if name.startswith(f"{package}."):
            return True
        caller = frame.f_locals.get("self")
        return any(each.inner is caller for each in self.limiter.connections)


def _raise_errors(service: Any) -> None:
    """Make endpoint services raise if their port is in use; on their own they only log it."""
    if isinstance(service, StreamServerEndpointService):
        service._raiseSynchronously = True  # noqa: SLF001 - as twisted.application.strports does
    for each in IServiceCollection(service, ()):
        _raise_errors(each)


def _kind(port: Any) -> str:
    """Return the kind of a port as in an endpoint string."""
    if isinstance(port, (unix.Port, unix.DatagramPort)) or isinstance(port.getHost(), UNIXAddress):
        return "unix"
    if isinstance(port, udp.Port):
        return "udp"
    return "ssl" if isinstance(port.factory, TLSMemoryBIOFactory) else "tcp"


def _owner(port: Any) -> HostedService | None:
    """Return the service that opens a port; None if it is not a plugin's or nothing tells."""
    factory = getattr(port, "factory", None)
    while isinstance(factory, WrappingFactory):
        factory = factory.wrappedFactory
    if isinstance(factory, ConnectionLimiter):
        return None
    if _active:
        return _active[-1]
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - public in all but name
    while frame is not None:
        for service in _services:
            if service.has_on_stack(frame):
                return service
        frame = frame.f_back
    only = _services[0]
    return only if list(only.parent or ()) == [only] else None


def _replace_start_listening() -> None:
    for each in _PORT_CLASSES:
        _original[each] = vars(each)["startListening"]
        each.startListening = _reporting(_original[each])


def _restore_start_listening() -> None:
    while _original:
        port_class, method = _original.popitem()
        port_class.startListening = method


def _reporting(start_listening: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a startListening method that reports the port to the service that opens it."""

    @wraps(start_listening)
    def startListening(port: Any) -> None:
        owner = _owner(port)
        if owner is not None and isinstance(port, tcp.Port):
            owner.limit(port)
        start_listening(port)
        if owner is not None:
            owner.add(port)

    return startListening
