"""The example handlers of examples/plugins, in a folder of their own as a third party has them."""

import shutil
from pathlib import Path

from twisted.trial.unittest import TestCase

from evserve.events import open_queue
from tests.documents import ROOT
from tests.integration.processes import run_python, spawn


class WordCountTests(TestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        shutil.copytree(ROOT / "examples" / "plugins" / "wordcount", self.folder)

    async def test_their_own_tests_pass(self):
        child = run_python(self, "-m", "twisted.trial", "test_wordcount", folder=self.folder)
        status = await child.ended
        self.assertEqual((status, b"PASSED" in child.out), (0, True), child.out.decode())

    async def test_they_are_run(self):
        from twisted.internet import reactor

        url = f"beanstalk://{await spawn(self, 'queue', '--port', '0').listening()}"
        queue = open_queue(url, reactor)
        self.addCleanup(queue.close)
        (self.folder / "poem.txt").write_text("so much depends upon")
        await queue.put("text.uploaded", b"poem.txt")
        await queue.put("text.read", b"poem.txt")
        child = spawn(self, "work", "--queue", url, folder=self.folder)
        await child.until(lambda: b"text.read: poem.txt" in child.err)
        await child.until(lambda: b"poem.txt has 4 words" in child.err)
        self.assertEqual((self.folder / "poem.count").read_text(), "4\n")
        while await queue.position("schedule/text.daily") is None:
            pass
        self.assertEqual(await child.stop(), 0)
