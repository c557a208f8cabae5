"""Counting the instructions of a server with valgrind."""

import tempfile
from shutil import which

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.reactor.measure import Load, compile_c, count_instructions


class InstructionTests(SynchronousTestCase):
    def test_a_larger_answer_costs_a_server_in_C_nothing_but_the_kernels_time(self):
        if not all(which(each) for each in ("cc", "taskset", "valgrind")):
            raise SkipTest("there is no C compiler, no taskset or no valgrind")
        with tempfile.TemporaryDirectory() as folder:
            load = compile_c("load", folder)
            echo = [compile_c("echo", folder)]
            for size in (64, 4096):
                for seconds in (0.2, 2, 20):  # on a busy machine 0.2 s may be too short
                    kind = Load(10, b"x" * size, size)
                    each, answers = count_instructions(load, echo, kind, seconds)
                    if answers > 10:
                        break
                self.assertGreater(answers, 10)
                self.assertTrue(10 < each < 1000, each)
