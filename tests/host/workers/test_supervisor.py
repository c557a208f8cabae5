"""The supervisor starts, replaces and stops workers."""

import errno

from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.workers.messages import MessageKind
from evserve.host.workers.supervisor import RESTART_DELAYS, STABLE_AFTER, Supervisor
from tests.host.workers.memory_processes import MemoryLauncher


MIN_DELAY, MAX_DELAY = RESTART_DELAYS.initial, RESTART_DELAYS.ceiling


class SupervisorTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.launcher = MemoryLauncher()
        self.failures = []
        self.supervisor = Supervisor(3, self.clock, self.launcher, self.failures.append)
        self.lines = []
        observer = lambda event: self.lines.append(eventAsText(event, includeTimestamp=False))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    @property
    def processes(self):
        return self.launcher.processes

    def serve_all(self):
        self.supervisor.start({})
        self.processes[0].serve()
        for process in self.processes[1:]:
            process.serve()
        return self.processes

    def said(self, text):
        return any(text in line for line in self.lines)

    def test_the_other_workers_wait_for_the_first(self):
        self.supervisor.start({})
        self.assertEqual(len(self.processes), 1)
        self.processes[0].serve()
        self.assertEqual(len(self.processes), 3)

    def test_it_is_complete_when_all_workers_serve(self):
        self.supervisor.start({})
        self.processes[0].serve()
        self.processes[1].serve()
        self.assertNoResult(self.supervisor.all_serving)
        self.processes[2].serve()
        self.successResultOf(self.supervisor.all_serving)
        self.assertEqual(self.supervisor.pids(), [100, 101, 102])

    def test_a_single_worker_is_enough(self):
        self.supervisor.count = 1
        self.serve_all()
        self.successResultOf(self.supervisor.all_serving)

    def test_a_worker_that_ends_before_all_have_served_is_a_failed_start(self):
        self.supervisor.start({})
        self.processes[0].serve()
        self.processes[2].end(1)
        self.assertEqual([worker.exit_reason for worker in self.failures], ["ended with status 1"])
        self.assertEqual(self.failures[0].exit_status, 1)

    def test_a_dead_worker_is_replaced_after_a_delay_and_logged(self):
        self.serve_all()[1].end(signal=9)
        self.assertTrue(self.said("worker 2 (process 101) was ended by SIGKILL: starting another"))
        self.assertEqual(len(self.processes), 3)
        self.clock.advance(MIN_DELAY)
        self.processes[3].serve()
        self.assertTrue(self.said("worker 2 serves (process 103)"))

    def delay_after_death(self, process):
        """End a worker; return how long it took until the next one started."""
        process.end(1)
        (call,) = self.clock.getDelayedCalls()
        delay = call.getTime() - self.clock.seconds()
        self.clock.advance(delay)
        return delay

    def test_each_death_in_a_row_doubles_the_delay_up_to_a_limit(self):
        self.serve_all()
        delays = [self.delay_after_death(self.processes[1])]
        delays += [self.delay_after_death(self.processes[-1]) for _ in range(19)]
        self.assertEqual(delays[:4], [MIN_DELAY * 2**n for n in range(4)])
        self.assertEqual(delays[-1], MAX_DELAY)

    def test_a_worker_that_lived_long_enough_resets_the_delay(self):
        self.serve_all()
        self.delay_after_death(self.processes[1])
        self.delay_after_death(self.processes[-1])
        self.clock.advance(STABLE_AFTER)
        self.assertEqual(self.delay_after_death(self.processes[-1]), MIN_DELAY)

    def test_a_start_that_fails_is_tried_again(self):
        self.serve_all()[1].end(1)
        self.launcher.broken = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.clock.advance(MIN_DELAY)
        self.assertTrue(self.said("could not start (Resource temporarily unavailable)"))
        self.launcher.broken = None
        self.clock.advance(2 * MIN_DELAY)
        self.assertEqual(len(self.processes), 4)

    def test_a_worker_that_was_told_to_end_is_replaced_at_once_while_it_drains(self):
        leaving = self.serve_all()[1]
        leaving.leave()
        self.assertTrue(self.said("worker 2 (process 101) was told to end: starting another"))
        self.assertEqual(len(self.processes), 4)
        self.processes[3].serve()
        self.assertEqual(self.supervisor.pids(), [100, 103, 102])
        leaving.end(1)  # it had to cut connections
        self.assertEqual((self.clock.getDelayedCalls(), len(self.processes)), ([], 4))

    def test_that_is_no_death_however_often(self):
        self.serve_all()
        for _ in range(5):
            worker = self.supervisor._workers[2].transport
            worker.leave()
            worker.end()
        self.assertEqual(self.delay_after_death(self.processes[-1]), MIN_DELAY)

    def test_stopping_waits_for_a_worker_that_was_told_to_end_before(self):
        leaving = self.serve_all()[1]
        leaving.leave()
        stopped = self.supervisor.stopService()
        self.supervisor.send_all(MessageKind.ABORT)
        self.assertEqual(leaving.received, [MessageKind.DRAIN, MessageKind.ABORT])
        for process in [each for each in self.processes if each is not leaving]:
            process.end()
        self.assertNoResult(stopped)
        self.assertEqual(self.supervisor.kill(), 1)
        self.successResultOf(stopped)

    def test_a_worker_told_to_end_while_all_stop_is_not_replaced(self):
        self.serve_all()
        self.supervisor.stopService()
        self.processes[0].leave()
        self.assertEqual(len(self.processes), 3)

    def test_stopping_tells_all_to_drain_and_waits(self):
        processes = self.serve_all()
        stopped = self.supervisor.stopService()
        self.assertEqual([process.received for process in processes], [[MessageKind.DRAIN]] * 3)
        for process in processes:
            self.assertNoResult(stopped)
            process.end()
        self.successResultOf(stopped)
        self.assertTrue(self.supervisor.clean)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_worker_that_aborts_connections_makes_the_end_unclean(self):
        processes = self.serve_all()
        self.supervisor.stopService()
        self.supervisor.send_all(MessageKind.ABORT)
        self.assertEqual(processes[0].received, [MessageKind.DRAIN, MessageKind.ABORT])
        for status, process in enumerate(processes):
            process.end(status)
        self.assertFalse(self.supervisor.clean)

    def test_a_worker_that_hangs_is_killed(self):
        self.serve_all()[0].end(1)
        stopped = self.supervisor.stopService()
        self.assertEqual(self.supervisor.kill(), 2)
        self.successResultOf(stopped)
        self.assertEqual(self.supervisor.kill(), 0)

    def test_no_worker_is_replaced_while_stopping(self):
        self.serve_all()[0].end(1)
        self.supervisor.stopService()
        self.clock.advance(MAX_DELAY)
        self.assertEqual(len(self.processes), 3)

    def test_a_worker_that_serves_after_the_stop_starts_no_others(self):
        self.supervisor.start({})
        self.supervisor.stopService()
        self.processes[0].serve()
        self.assertEqual(len(self.processes), 1)
        self.assertNoResult(self.supervisor.all_serving)

    def test_a_last_worker_that_serves_after_the_stop_completes_nothing(self):
        self.supervisor.count = 1
        self.supervisor.start({})
        self.supervisor.stopService()
        self.processes[0].serve()
        self.assertNoResult(self.supervisor.all_serving)

    def test_without_workers_it_stops_at_once_and_starts_none(self):
        self.successResultOf(self.supervisor.stopService())
        self.supervisor.start({})
        self.assertEqual(self.processes, [])

    def test_the_output_of_a_worker_is_logged_in_whole_lines(self):
        self.supervisor.start({})
        worker = self.processes[0].worker
        worker.childDataReceived(2, b"2026-01-31 12:00:00 worker 1: so")
        self.assertFalse(self.lines)
        worker.childDataReceived(2, b"so\nand")
        self.assertEqual(len(self.lines), 1)
        self.assertTrue(self.lines[0].endswith("] worker 1: soso"), self.lines)
