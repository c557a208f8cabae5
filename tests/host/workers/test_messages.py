"""The assignment of a worker, messages, and the worker's end of the control channel."""

from prometheus_client import CollectorRegistry, Counter, Histogram
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.workers.messages import (
    Assignment,
    ControlChannel,
    Message,
    MessageDecoder,
    MessageKind,
    encode,
    take_assignment,
)


class AssignmentTests(SynchronousTestCase):
    def test_it_passes_through_the_environment_and_is_removed_from_it(self):
        assignment = Assignment(2, {("echo", "tcp:0"): 5, ("echo", "unix:a b"): 6}, uvloop=True)
        environ = assignment.environment({"HOME": "/"})
        self.assertEqual(take_assignment(environ), assignment)
        self.assertEqual(environ, {"HOME": "/"})
        self.assertIsNone(take_assignment(environ))

    def test_the_variables_of_systemd_are_not_for_workers(self):
        told = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "LANG": "C"}
        environ = Assignment(1, {}, uvloop=False).environment(told)
        take_assignment(environ)
        self.assertEqual(environ, {"LANG": "C"})


class MessageTests(SynchronousTestCase):
    def test_a_message_arrives_as_it_was_sent(self):
        self.assertEqual(
            list(MessageDecoder().feed(encode(Message(MessageKind.READY)))),
            [Message(MessageKind.READY)],
        )

    def test_bytes_may_come_one_by_one(self):
        decoder = MessageDecoder()
        sent = encode(Message(MessageKind.DRAIN)) + encode(Message(MessageKind.ABORT))
        got = [message for byte in sent for message in decoder.feed(bytes([byte]))]
        self.assertEqual([message.kind for message in got], [MessageKind.DRAIN, MessageKind.ABORT])

    def test_several_messages_may_come_at_once(self):
        sent = encode(Message(MessageKind.DRAIN)) * 3
        self.assertEqual(len(list(MessageDecoder().feed(sent))), 3)

    def test_metrics_keep_type_labels_and_values(self):
        registry = CollectorRegistry()
        Counter("hits", "Hits.", ["page"], registry=registry).labels("/a\n").inc(3)
        Histogram("lag", "Lag.", registry=registry).observe(0.3)
        families = tuple(registry.collect())
        (got,) = MessageDecoder().feed(encode(Message(MessageKind.METRICS, families)))
        self.assertEqual(got.families, families)

    def test_a_metric_of_which_no_label_was_used_is_a_metric_nevertheless(self):
        registry = CollectorRegistry()
        Counter("hits", "Hits.", ["page"], registry=registry)
        families = tuple(registry.collect())
        (got,) = MessageDecoder().feed(encode(Message(MessageKind.METRICS, families)))
        self.assertEqual(got.families, families)


class ControlChannelTests(SynchronousTestCase):
    def setUp(self):
        self.done = []
        does = [
            lambda name=name: self.done.append(name)
            for name in ("drain", "abort", "reload", "lost")
        ]
        self.control = ControlChannel(*does)
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = self.control
        self.control.makeConnection(self.transport)

    def test_messages_of_the_supervisor_are_carried_out(self):
        kinds = MessageKind.RELOAD, MessageKind.DRAIN, MessageKind.ABORT
        self.control.dataReceived(b"".join(encode(Message(kind)) for kind in kinds))
        self.assertEqual(self.done, ["reload", "drain", "abort"])

    def test_messages_reach_the_supervisor(self):
        self.control.send(Message(MessageKind.READY))
        self.assertEqual(
            list(MessageDecoder().feed(self.transport.value())), [Message(MessageKind.READY)]
        )

    def test_a_lost_supervisor_is_noticed_and_sent_nothing_more(self):
        self.transport.loseConnection()
        self.control.send(Message(MessageKind.READY))
        self.assertEqual((self.done, self.transport.value()), (["lost"], b""))
        self.successResultOf(self.control.close())

    def test_closing_the_channel_does_not_lose_the_supervisor(self):
        self.successResultOf(self.control.close())
        self.assertEqual(self.done, [])
