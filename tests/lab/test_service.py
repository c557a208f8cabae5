"""The job around a run: what becomes of its figures, and how the process ends."""

import io
from pathlib import Path

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab import output
from evserve.lab.jsonfile import from_json
from evserve.lab.output import Output
from evserve.lab.process import Children
from evserve.lab.screen import Screen
from evserve.lab.service import LabService
from evserve.testing import MemoryHost
from tests.lab.example_results import result


@define
class Run:
    """A run that is over at once."""

    children: Children = field(factory=Children)

    @property
    def bench(self):
        return self

    async def run(self):
        pass

    def result(self):
        return result()


class LabServiceTests(SynchronousTestCase):
    def test_a_page_that_cannot_be_drawn_costs_neither_the_figures_nor_the_end(self):
        def draw(result):
            raise ZeroDivisionError

        self.patch(output, "as_html", draw)
        folder, host = Path(self.mktemp()), MemoryHost()
        folder.mkdir()
        files = Output(folder / "lab.html", folder / "lab.json", None)
        LabService(host, Run(), files, Screen(io.StringIO(), io.StringIO())).startService()
        host.reactor.run()
        self.assertEqual(host.failures, ["the report broke off"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(from_json((folder / "lab.json").read_text()), result())
