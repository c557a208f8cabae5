"""Workers that are started, replaced and stopped."""

import errno

from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.workers.backoff import LONGEST, SHORTEST, STEADY, Backoff
from evserve.host.workers.messages import Kind
from evserve.host.workers.supervisor import Crew
from tests.host.workers.memory_processes import MemoryLauncher


class BackoffTests(SynchronousTestCase):
    def test_each_death_in_a_row_waits_twice_as_long_up_to_a_limit(self):
        backoff = Backoff()
        waits = [backoff.after(0) for _ in range(20)]
        self.assertEqual(waits[:4], [SHORTEST * 2**n for n in range(4)])
        self.assertEqual(waits[-1], LONGEST)

    def test_a_worker_that_lived_a_while_begins_anew(self):
        backoff = Backoff()
        for _ in range(5):
            backoff.after(0)
        self.assertEqual(backoff.after(STEADY), SHORTEST)


class CrewTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.launcher = MemoryLauncher()
        self.failures = []
        self.crew = Crew(3, self.clock, self.launcher, self.failures.append)
        self.lines = []
        observer = lambda event: self.lines.append(eventAsText(event, includeTimestamp=False))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    @property
    def processes(self):
        return self.launcher.processes

    def serve_all(self):
        self.crew.start({})
        self.processes[0].serve()
        for process in self.processes[1:]:
            process.serve()
        return self.processes

    def said(self, text):
        return any(text in line for line in self.lines)

    def test_the_others_wait_for_the_first(self):
        self.crew.start({})
        self.assertEqual(len(self.processes), 1)
        self.processes[0].serve()
        self.assertEqual(len(self.processes), 3)

    def test_it_is_complete_when_all_serve(self):
        self.crew.start({})
        self.processes[0].serve()
        self.processes[1].serve()
        self.assertNoResult(self.crew.complete)
        self.processes[2].serve()
        self.successResultOf(self.crew.complete)
        self.assertEqual(self.crew.pids(), [100, 101, 102])

    def test_one_worker_is_a_crew(self):
        self.crew.size = 1
        self.serve_all()
        self.successResultOf(self.crew.complete)

    def test_one_that_ends_before_all_have_served_is_a_failed_start(self):
        self.crew.start({})
        self.processes[0].serve()
        self.processes[2].end(1)
        self.assertEqual([child.end for child in self.failures], ["ended with status 1"])
        self.assertEqual(self.failures[0].status, 1)

    def test_a_dead_worker_is_replaced_after_a_moment_and_a_line(self):
        self.serve_all()[1].end(signal=9)
        self.assertTrue(self.said("worker 2 (process 101) was ended by SIGKILL: starting another"))
        self.assertEqual(len(self.processes), 3)
        self.clock.advance(SHORTEST)
        self.processes[3].serve()
        self.assertTrue(self.said("worker 2 serves (process 103)"))

    def test_deaths_in_a_row_wait_longer(self):
        self.serve_all()[1].end(1)
        self.clock.advance(SHORTEST)
        self.processes[3].end(1)
        self.clock.advance(SHORTEST)
        self.assertEqual(len(self.processes), 4)
        self.clock.advance(SHORTEST)
        self.assertEqual(len(self.processes), 5)

    def test_a_start_that_fails_is_tried_again(self):
        self.serve_all()[1].end(1)
        self.launcher.broken = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.clock.advance(SHORTEST)
        self.assertTrue(self.said("could not start (Resource temporarily unavailable)"))
        self.launcher.broken = None
        self.clock.advance(2 * SHORTEST)
        self.assertEqual(len(self.processes), 4)

    def test_stopping_tells_all_to_drain_and_waits(self):
        processes = self.serve_all()
        stopped = self.crew.stopService()
        self.assertEqual([process.orders for process in processes], [[Kind.DRAIN]] * 3)
        for process in processes:
            self.assertNoResult(stopped)
            process.end()
        self.successResultOf(stopped)
        self.assertTrue(self.crew.clean)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_cuts_somebody_off_spoils_the_end(self):
        processes = self.serve_all()
        self.crew.stopService()
        self.crew.cut()
        self.assertEqual(processes[0].orders, [Kind.DRAIN, Kind.CUT])
        for status, process in enumerate(processes):
            process.end(status)
        self.assertFalse(self.crew.clean)

    def test_one_that_hangs_is_killed(self):
        self.serve_all()[0].end(1)
        stopped = self.crew.stopService()
        self.assertEqual(self.crew.kill(), 2)
        self.successResultOf(stopped)
        self.assertEqual(self.crew.kill(), 0)

    def test_stopping_replaces_nobody(self):
        self.serve_all()[0].end(1)
        self.crew.stopService()
        self.clock.advance(LONGEST)
        self.assertEqual(len(self.processes), 3)

    def test_one_that_is_ready_too_late_brings_no_others(self):
        self.crew.start({})
        self.crew.stopService()
        self.processes[0].serve()
        self.assertEqual(len(self.processes), 1)
        self.assertNoResult(self.crew.complete)

    def test_one_that_completes_the_crew_too_late_completes_nothing(self):
        self.crew.size = 1
        self.crew.start({})
        self.crew.stopService()
        self.processes[0].serve()
        self.assertNoResult(self.crew.complete)

    def test_without_workers_it_stops_at_once_and_starts_none(self):
        self.successResultOf(self.crew.stopService())
        self.crew.start({})
        self.assertEqual(self.processes, [])

    def test_what_a_worker_logs_is_taken_down_in_whole_lines(self):
        self.crew.start({})
        child = self.processes[0].child
        child.childDataReceived(2, b"2026-01-31 12:00:00 worker 1: so")
        self.assertFalse(self.lines)
        child.childDataReceived(2, b"so\nand")
        self.assertEqual(len(self.lines), 1)
        self.assertTrue(self.lines[0].endswith("] worker 1: soso"), self.lines)
