"""Classes provide the interfaces that they declare."""

import importlib
import io
import pkgutil
from inspect import isclass

from twisted.application.service import IService, IServiceMaker, Service
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver
from twisted.plugin import IPlugin
from twisted.plugins import evserve_command, evserve_echo
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.verify import verifyClass, verifyObject

import evserve
from evserve.host import command, logs
from evserve.host.application import RootService, ServiceHost
from evserve.host.connections import (
    Connection,
    ConnectionLimiter,
    DescriptorLimiter,
    TransparentConnection,
)
from evserve.host.listener import ListenerService
from evserve.host.options import Limits
from evserve.interfaces import IHost, IServicePlugin
from evserve.plugin import ServiceMakerPlugin, ServicePlugin
from evserve.testing import MemoryHost, MemoryListener


def implementers():
    """Return every class of ours that declares an interface."""
    found = set()
    for info in pkgutil.walk_packages(evserve.__path__, "evserve."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if (
                isclass(value)
                and value.__module__ == module.__name__
                and list(implementedBy(value))
            ):
                found.add(value)
    return found


class ImplementerTests(SynchronousTestCase):
    def test_every_class_has_the_methods_that_its_interfaces_ask_for(self):
        classes = implementers()
        for known in (
            ServicePlugin,
            ServiceHost,
            Connection,
            ConnectionLimiter,
            RootService,
            MemoryHost,
        ):
            self.assertIn(known, classes)
        for each in classes:
            if issubclass(each, Connection):
                continue  # dataReceived is in a slot, which its objects have filled: see below
            for interface in implementedBy(each):
                self.assertTrue(verifyClass(interface, each), (each, interface))

    def test_every_object_has_the_attributes_too(self):
        clock = Clock()
        root = RootService(MemoryReactorClock(), {})
        host = ServiceHost("echo", root)
        limiter = ConnectionLimiter(
            "echo", Factory(), Limits(), clock, DescriptorLimiter(clock, 64)
        )
        connection = Connection(Protocol(), limiter, None)
        connection.makeConnection(StringTransport())
        service = Service()
        service.setName("x")
        for interface, provider in (
            (IHost, host),
            (IHost, MemoryHost()),
            (IProtocolFactory, limiter),
            (IProtocol, connection),
            (IHalfCloseableProtocol, connection),
            (IProtocol, TransparentConnection(Protocol(), limiter, None)),
            (IService, ListenerService(host, {}, limiter)),
            (IService, MemoryListener({}, Factory())),
            (IService, root),
            (ILogObserver, logs.file_observer(io.StringIO(), "text")),
            (IServicePlugin, command.SERVICES),
            (IServicePlugin, evserve_echo.echo),
            (IServicePlugin, ServiceMakerPlugin(evserve_command.evserve)),
            (IServiceMaker, evserve_command.evserve),
            (IPlugin, evserve_echo.echo),
        ):
            self.assertTrue(verifyObject(interface, provider), (interface, provider))
