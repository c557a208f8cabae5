"""What claims to implement an interface does."""

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.verify import verifyClass

from evserve.http.agent import Agent
from evserve.http.connection import Connection
from evserve.http.guard import GuardedEndpoint, _Filter
from evserve.http.response import Body, ClientRequest, Response
from evserve.http.tls import HostTLS
from evserve.http.tunnel import TunnelEndpoint
from evserve.http.upload import Upload


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
