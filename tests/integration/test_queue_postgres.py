from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from evserve.events import open_queue
from tests.events.conformance import EventQueueConformance
from tests.integration.postgres import fresh_database
from tests.integration.queue_server import QueueServer


class OwnServerTests(EventQueueConformance, TestCase):
    def make_queue(self):
        self.server = getattr(self, "server", None) or QueueServer(
            self, "--store", fresh_database()
        )
        return open_queue(f"beanstalk://127.0.0.1:{self.server.port}", reactor)
