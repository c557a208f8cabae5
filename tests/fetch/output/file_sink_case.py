"""Files in a folder of the test's, from a network in memory."""

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.fetch.output.files import FileStore
from tests.fetch.memory_world import World


class Case(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.clock = Clock()

    def world(self, pages, out=None, **how):
        class Store(FileStore):
            def open(self, arrival, head):
                download = FileStore.open(self, arrival, head)
                if out is not None and download is not None:
                    download._out = out(download._out)
                return download

        self.store = Store(self.folder, self.clock, **how)
        return World(pages, stores=[self.store], clock=self.clock)

    def files(self):
        return [path for path in self.folder.rglob("*") if path.is_file()]
