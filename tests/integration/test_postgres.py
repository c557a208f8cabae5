"""The engine for postgresql:// against servers of its own."""

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from evserve.events import open_queue
from tests.events.conformance import EventQueueConformance
from tests.integration.postgres import fresh_database


class ConformanceTests(EventQueueConformance, TestCase):
    database = None

    def make_queue(self):
        ConformanceTests.database = ConformanceTests.database or fresh_database()
        return open_queue(self.database, reactor)
