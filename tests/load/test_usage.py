"""CPU and memory of processes, from a made-up and the real /proc."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evserve.load.usage import (
    GeneratorUsage,
    MachineUsage,
    Usage,
    listen_overflows,
    proportional_set_size,
    usage_of,
)


TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcTests(SynchronousTestCase):
    def setUp(self):
        self.proc = Path(self.mktemp())
        self.proc.mkdir()
        self.proc.joinpath("meminfo").write_text("")
        self.proc.joinpath("99").mkdir()  # it ended between the listing and the reading

    def process(self, pid, parent, ticks=(0, 0, 0, 0), pages=0, name="python3"):
        fields = ["S", parent, *[0] * 9, *ticks, *[0] * 6, pages, 0]
        folder = self.proc / str(pid)
        folder.mkdir()
        folder.joinpath("stat").write_text(f"{pid} ({name}) {' '.join(map(str, fields))}\n")

    def test_cpu_is_user_and_system_time_of_living_and_ended_processes(self):
        self.process(5, 1, ticks=(100, 20, 3, 4), pages=10)
        usage = usage_of(5, self.proc)
        self.assertEqual((usage.cpu, usage.memory), (127 / TICK, 10 * PAGE))

    def test_children_and_their_children_count(self):
        self.process(7, 6, ticks=(1, 0, 0, 0), pages=1)
        self.process(6, 5, ticks=(10, 0, 0, 0), pages=1)
        self.process(5, 1, ticks=(100, 0, 0, 0), pages=1)
        self.process(8, 1, ticks=(1000, 0, 0, 0), pages=1)
        usage = usage_of(5, self.proc)
        self.assertEqual((usage.cpu, usage.processes), (111 / TICK, 3))

    def test_a_name_may_look_like_fields(self):
        self.process(5, 1, ticks=(1, 1, 0, 0), name="a) S 9 (b c")
        self.assertEqual(usage_of(5, self.proc).cpu * TICK, 2)

    def test_a_process_that_is_not_there_is_an_error(self):
        self.assertRaises(ProcessLookupError, usage_of, 4, self.proc)

    def test_statistics_of_the_scheduler_are_more_exact_than_ticks(self):
        self.process(5, 1, ticks=(1, 1, 3, 0))
        for thread, nanoseconds in ((5, 19_000_000), (6, 9_000_000)):
            folder = self.proc / "5" / "task" / str(thread)
            folder.mkdir(parents=True)
            folder.joinpath("schedstat").write_text(f"{nanoseconds} 7 3\n")
        usage = usage_of(5, self.proc)
        self.assertAlmostEqual(usage.cpu, 0.028 + 3 / TICK)
        self.assertAlmostEqual(usage.waited, 14e-9)

    def test_threads_that_have_ended_are_in_the_ticks(self):
        self.process(5, 1, ticks=(100, 1, 0, 0))
        folder = self.proc / "5" / "task" / "5"
        folder.mkdir(parents=True)
        folder.joinpath("schedstat").write_text("19000000 7 3\n")
        self.assertEqual(usage_of(5, self.proc).cpu, 101 / TICK)

    def test_what_processes_share_counts_once(self):
        for pid, parent in ((5, 1), (6, 5), (7, 5)):
            self.process(pid, parent)
        for pid, size in ((5, 100), (6, 20)):
            text = f"55d0-7ffc [rollup]\nRss: 900 kB\nPss: {size} kB\nPss_Dirty: 9 kB\n"
            self.proc.joinpath(str(pid), "smaps_rollup").write_text(text)
        self.assertEqual(proportional_set_size(5, self.proc), 120 * 1024)
        self.assertIsNone(proportional_set_size(7, self.proc))

    def test_the_time_waited_comes_from_scheduler_statistics(self):
        self.assertEqual(GeneratorUsage.now(self.proc).waited, 0)
        self.proc.joinpath("self").mkdir()
        self.proc.joinpath("self", "schedstat").write_text("5 2500000000 7\n")
        self.assertEqual(GeneratorUsage.now(self.proc).waited, 2.5)

    def test_this_process_can_be_measured(self):
        self.assertGreater(usage_of(os.getpid()).memory, 1_000_000)
        self.assertGreater(usage_of(os.getpid()).cpu, 0)
        self.assertGreater(proportional_set_size(os.getpid()), 1_000_000)


class MachineUsageTests(SynchronousTestCase):
    def test_all_programs_and_the_hypervisor(self):
        proc = Path(self.mktemp())
        proc.mkdir()
        self.assertEqual(MachineUsage.now(proc).cpu, 0)
        proc.joinpath("stat").write_text("cpu  100 20 3 9000 9 700 800 50 60 0\ncpu0 1 2\n")
        found = MachineUsage.now(proc)
        self.assertEqual((found.cpu * TICK, found.stolen * TICK), (123, 50))

    def test_what_others_took_is_at_most_what_they_used_and_what_ours_waited(self):
        start, end = MachineUsage(10, 100, 5), MachineUsage(12, 103, 5)
        for waited, lost in ((0.5, 0.5), (9, 1)):  # others used 3 - 2 s
            server = (Usage(1, 0, 1, 4), Usage(2.5, 0, 1, 4 + waited))
            generator = (GeneratorUsage(10, 1, 1), GeneratorUsage(12, 1.5, 1))
            self.assertEqual(start.lost_share(end, server, generator), lost / 2)

    def test_threads_that_have_ended_take_their_waiting_with_them(self):
        start, end = MachineUsage(10, 100, 5), MachineUsage(12, 103, 6)
        self.assertEqual(start.lost_share(end, (Usage(1, 0, 1, 4), Usage(2, 0, 1, 3))), 0.5)

    def test_stolen_time_is_lost_in_any_case(self):
        self.assertEqual(MachineUsage(10, 0, 5).lost_share(MachineUsage(12, 0, 6)), 0.5)
        self.assertEqual(MachineUsage(10, 0, 5).lost_share(MachineUsage(10, 0, 5)), 0)


class ListenOverflowsTests(SynchronousTestCase):
    def test_the_counter_of_the_kernel(self):
        proc = Path(self.mktemp())
        self.assertEqual(listen_overflows(proc), 0)
        proc.joinpath("net").mkdir(parents=True)
        text = "IpExt: InMc\nIpExt: 1\nTcpExt: A ListenOverflows B\nTcpExt: 4 5 6\n"
        proc.joinpath("net", "netstat").write_text(text)
        self.assertEqual(listen_overflows(proc), 5)


class GeneratorUsageTests(SynchronousTestCase):
    def test_running_and_waiting_for_a_cpu_are_both_busy(self):
        start = GeneratorUsage(10, 1, 0.5)
        self.assertEqual(start.busy_share(GeneratorUsage(12, 2, 1)), 0.75)
        self.assertEqual(start.busy_share(GeneratorUsage(10, 1, 0)), 0)
