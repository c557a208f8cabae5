"""The public names of the package."""

from twisted.trial.unittest import SynchronousTestCase

from evserve import queue


class PackageTests(SynchronousTestCase):
    def test_every_public_name_can_be_imported(self):
        for name in queue.__all__:
            self.assertEqual(getattr(queue, name).__name__, name)
        self.assertRaises(AttributeError, getattr, queue, "Missing")
