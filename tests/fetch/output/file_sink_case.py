"""A test case with a FileSink on a network in memory."""

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.output.files import FileSink
from tests.fetch.memory_world import World


class Case(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.clock = Clock()

    def world(self, pages, out=None, **how):
        class Sink(FileSink):
            def open(self, job, head):
                writer = FileSink.open(self, job, head)
                if out is not None and writer is not None:
                    writer._out = out(writer._out)
                return writer

        self.sink = Sink(self.folder, self.clock, **how)
        return World(pages, sinks=[self.sink], clock=self.clock)

    def files(self):
        return [path for path in self.folder.rglob("*") if path.is_file()]
