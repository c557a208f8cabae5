"""What claims to implement an interface does."""

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.verify import verifyClass

from evserve.fetch.agent import Agent
from evserve.fetch.connection import Connection
from evserve.fetch.guard import GuardedEndpoint, _Filter
from evserve.fetch.response import Body, ClientRequest, Response
from evserve.fetch.tls import HostTLS
from evserve.fetch.tunnel import TunnelEndpoint
from evserve.fetch.upload import Upload


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
