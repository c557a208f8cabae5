"""Counting the instructions of a server, which takes valgrind."""

import tempfile
from shutil import which

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.reactor.instructions import count
from benchmarks.reactor.measure import Load, compile_c


class InstructionTests(SynchronousTestCase):
    def test_a_larger_answer_costs_a_server_in_C_nothing_but_the_kernels_time(self):
        if not all(which(each) for each in ("cc", "taskset", "valgrind")):
            raise SkipTest("there is no C compiler, no taskset or no valgrind")
        with tempfile.TemporaryDirectory() as folder:
            load = compile_c("load", folder)
            echo = [compile_c("echo", folder)]
            for size in (64, 4096):
                for seconds in (0.2, 2, 20):  # a busy machine gets little done in a fifth of one
                    with tempfile.TemporaryDirectory() as traces:
                        kind = Load(10, b"x" * size, size)
                        each, answers = count(load, echo, kind, seconds, traces)
                    if answers > 10:
                        break
                self.assertGreater(answers, 10)
                self.assertTrue(10 < each < 1000, each)
