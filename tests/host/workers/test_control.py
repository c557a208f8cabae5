"""A worker and its parent: orders, reports, and the end of the parent."""

from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.workers.control import Control
from evserve.host.workers.messages import Frames, Kind, Message, encode


class ControlTests(SynchronousTestCase):
    def setUp(self):
        self.done = []
        does = [lambda name=name: self.done.append(name) for name in ("drain", "cut", "orphaned")]
        self.control = Control(*does)
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = self.control
        self.control.makeConnection(self.transport)

    def test_it_does_what_the_parent_says(self):
        self.control.dataReceived(encode(Message(Kind.DRAIN)) + encode(Message(Kind.CUT)))
        self.assertEqual(self.done, ["drain", "cut"])

    def test_it_reports(self):
        self.control.report(Message(Kind.READY))
        self.assertEqual(list(Frames().feed(self.transport.value())), [Message(Kind.READY)])

    def test_a_parent_that_is_gone_makes_an_orphan_who_reports_no_more(self):
        self.transport.loseConnection()
        self.control.report(Message(Kind.READY))
        self.assertEqual((self.done, self.transport.value()), (["orphaned"], b""))
        self.successResultOf(self.control.leave())

    def test_leaving_makes_no_orphan(self):
        self.successResultOf(self.control.leave())
        self.assertEqual(self.done, [])
