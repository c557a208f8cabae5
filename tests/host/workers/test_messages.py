"""What parent and worker say to each other."""

from prometheus_client import CollectorRegistry, Counter, Histogram
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.workers.messages import Frames, Kind, Message, encode


class FramesTests(SynchronousTestCase):
    def test_a_message_arrives_as_it_was_sent(self):
        self.assertEqual(list(Frames().feed(encode(Message(Kind.READY)))), [Message(Kind.READY)])

    def test_bytes_may_come_one_by_one(self):
        frames = Frames()
        sent = encode(Message(Kind.DRAIN)) + encode(Message(Kind.CUT))
        got = [message for byte in sent for message in frames.feed(bytes([byte]))]
        self.assertEqual([message.kind for message in got], [Kind.DRAIN, Kind.CUT])

    def test_several_messages_may_come_at_once(self):
        sent = encode(Message(Kind.DRAIN)) * 3
        self.assertEqual(len(list(Frames().feed(sent))), 3)

    def test_metrics_keep_type_labels_and_values(self):
        registry = CollectorRegistry()
        Counter("hits", "Hits.", ["page"], registry=registry).labels("/a\n").inc(3)
        Histogram("lag", "Lag.", registry=registry).observe(0.3)
        families = tuple(registry.collect())
        (got,) = Frames().feed(encode(Message(Kind.METRICS, families)))
        self.assertEqual(got.families, families)
