"""The process of a model; most of its tests start real ones, in tests/integration/test_lab.py."""

import errno
import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.measurement import LoadProfile, ModelRunner
from evserve.lab.models import Model


class FullReactor(MemoryReactorClock):
    """A reactor on a machine that allows no more processes."""

    def spawnProcess(self, *args, **kwargs):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class ModelProcessTests(SynchronousTestCase):
    def test_a_process_that_cannot_be_forked_ends_no_other(self):
        signals = []
        self.patch(os, "killpg", lambda *signal: signals.append(signal))
        runner = ModelRunner(FullReactor())
        model = Model("a", "told", Path("a.py"), "")
        measuring = Deferred.fromCoroutine(runner.measure(model, 1, LoadProfile()))
        self.failureResultOf(measuring, OSError)
        runner.stop()
        self.assertEqual(signals, [])
