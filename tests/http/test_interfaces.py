"""What claims to implement an interface does."""

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.verify import verifyClass

from evserve.http.agent import Agent, Body, ClientRequest, Response
from evserve.http.connect import GuardedEndpoint, HostTLS, _Filter
from evserve.http.connection import Connection, Upload
from evserve.http.proxy import TunnelEndpoint


IMPLEMENTERS = (
    Agent,
    Body,
    ClientRequest,
    Connection,
    GuardedEndpoint,
    HostTLS,
    Response,
    TunnelEndpoint,
    Upload,
    _Filter,
)


class InterfaceTests(SynchronousTestCase):
    def test_every_implementer_has_what_it_promises(self):
        for implementer in IMPLEMENTERS:
            for interface in implementedBy(implementer):
                verifyClass(interface, implementer, tentative=True)
