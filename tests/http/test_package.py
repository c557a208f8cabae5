"""Public names load on demand, and classes provide their interfaces."""

from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.verify import verifyClass

from evserve import http
from evserve.http.agent import Agent, ClientRequest, Response, _Body
from evserve.http.connect import PublicEndpoint, _HostTLS, _PublicAddresses
from evserve.http.connection import Connection, Upload
from evserve.http.proxy import TunnelEndpoint


IMPLEMENTERS = (
    Agent,
    ClientRequest,
    Connection,
    PublicEndpoint,
    Response,
    TunnelEndpoint,
    Upload,
    _Body,
    _HostTLS,
    _PublicAddresses,
)


class InterfaceTests(SynchronousTestCase):
    def test_every_implementer_provides_its_interfaces(self):
        for implementer in IMPLEMENTERS:
            for interface in implementedBy(implementer):
                verifyClass(interface, implementer, tentative=True)


class ExportTests(SynchronousTestCase):
    def test_every_export_is_the_object_of_its_module(self):
        for module, names in http._EXPORTS.items():
            for name in names:
                expected = getattr(import_module(f"evserve.http.{module}"), name)
                self.assertIs(getattr(http, name), expected)

    def test_other_names_are_attribute_errors(self):
        self.assertRaises(AttributeError, lambda: http.nothing)
