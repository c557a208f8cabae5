"""What all models share: the line that they listen, and the lines on where they break."""

import os
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.io_models.behaviour import FILES, few_files
from tests.io_models.programs import (
    FOLDER,
    PATIENCE,
    UNAVAILABLE,
    Program,
    connect,
    receive,
)


class AnnouncementTests(SynchronousTestCase):
    def run_into(self, name, output):
        """Run a program that cannot print its line; return its status and standard error."""
        done = subprocess.run(
            [sys.executable, FOLDER / f"{name}.py", "0"],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode == UNAVAILABLE:
            raise SkipTest(done.stderr)
        return done.returncode, done.stderr

    def test_a_full_disk_is_one_line(self):
        for name in ("blocking", "twisted_epoll", "evserve_uvloop"):
            with open("/dev/full", "w") as full:  # noqa: PTH123
                result = self.run_into(name, full)
            self.assertEqual(result, (1, f"{name}: standard output: No space left on device\n"))

    def test_a_reader_that_has_gone_is_one_line(self):
        reading, writing = os.pipe()
        os.close(reading)
        self.addCleanup(os.close, writing)
        result = self.run_into("blocking", writing)
        self.assertEqual(result, (1, "blocking: standard output: Broken pipe\n"))


class WarningTests(SynchronousTestCase):
    def test_a_closed_standard_error_does_not_matter(self):
        program = Program(self, "poll_loop", prepare=few_files)
        program.process.stderr.close()
        first = connect(self, program)
        for _ in range(2 * FILES):
            connect(self, program)
        first.sendall(b"still there")
        self.assertEqual(receive(first, 11), b"STILL THERE")
