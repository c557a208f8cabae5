import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from evserve import queue


OPEN = """
import sys
import evserve.events
evserve.events.open_queue("memory:", None)
print([name for name in ("evserve.queue.service", "prometheus_client") if name in sys.modules])
"""


class PackageTests(SynchronousTestCase):
    def test_every_public_name_can_be_imported(self):
        for name in queue.__all__:
            self.assertEqual(getattr(queue, name).__name__, name)
        self.assertRaises(AttributeError, getattr, queue, "Missing")

    def test_an_embedded_queue_does_not_load_the_service(self):
        output = subprocess.check_output([sys.executable, "-c", OPEN], text=True)
        self.assertEqual(output, "[]\n")
