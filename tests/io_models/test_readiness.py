"""Models that ask for readiness, one that gets signals, and one that gets completions."""

import resource

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.io_models.behaviour import DescriptorLimit, ModelBehaviour, OptionalPackage
from tests.io_models.programs import (
    PATIENCE,
    UNAVAILABLE,
    Program,
    connect,
    receive,
    receive_rest,
)


FD_SETSIZE = 1024


class NonblockingPollingTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "nonblocking_polling"


class SelectLoopTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "select_loop"

    def setUp(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limits[1] < 2 * FD_SETSIZE:
            raise SkipTest(f"a hard limit of {limits[1]} open files is too low for this")
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))

    def test_a_client_with_descriptor_1024_is_closed_and_the_others_are_served(self):
        program = self.start()
        clients = []
        for _ in range(FD_SETSIZE):
            client = connect(self, program)
            try:
                self.converse(client, b"hello")
            except (AssertionError, ConnectionError):
                break
            clients.append(client)
        self.assertLess(len(clients), FD_SETSIZE)  # some descriptors are the program's own
        self.assertGreater(len(clients), FD_SETSIZE - 20)
        for _ in range(10):
            self.assertEqual(receive_rest(connect(self, program)), b"")
        for client in clients:
            self.converse(client, b"still there")
        self.assertEqual(
            program.errors, "select_loop: descriptor 1024 is beyond select's FD_SETSIZE of 1024\n"
        )

    def test_a_descriptor_can_be_used_again(self):
        program = self.start()
        clients = [connect(self, program) for _ in range(FD_SETSIZE)]
        clients[0].sendall(b"going")
        clients[0].shutdown(1)
        self.assertEqual(receive_rest(clients[0]), b"GOING")
        self.converse(connect(self, program), b"coming")


class PollLoopTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "poll_loop"


class EpollLevelTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "epoll_level"


class EdgeTriggered:
    """For models that are notified of a change once: none may be missed."""

    def test_bursts_of_many_clients_are_answered_completely(self):
        program = self.start()
        clients = [connect(self, program) for _ in range(20)]
        burst = bytes(range(97, 123)) * 5_000  # 130 kB: more than one read, less than the buffers
        for _ in range(5):
            for client in clients:
                for begin in range(0, len(burst), 49_999):
                    client.sendall(burst[begin : begin + 49_999])
            for client in clients:
                self.assertTrue(receive(client, len(burst)) == burst.upper())


class EpollEdgeTests(EdgeTriggered, DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "epoll_edge"


class SelectorsLoopTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "selectors_loop"


def few_signals():
    """Limit the queued signals of a program that is about to start."""
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (2, 2))


class SignalDrivenTests(EdgeTriggered, DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "signal_driven"

    def test_dropped_signals_lose_no_data(self):
        program = self.start(prepare=few_signals)
        clients = [connect(self, program) for _ in range(50)]
        for client in clients:
            self.converse(client, b"here")
        with program.stopped():  # it takes no signals, so most find the queue full
            for client in clients:
                client.sendall(b"hello")
        for client in clients:
            self.assertEqual(receive(client, 5), b"HELLO")
        self.assertEqual(
            program.errors,
            "signal_driven: more signals than RLIMIT_SIGPENDING = 2: checking all connections\n",
        )


class IoUringCompletionTests(
    OptionalPackage, EdgeTriggered, DescriptorLimit, ModelBehaviour, SynchronousTestCase
):
    name = "io_uring_completion"
    package = "liburing"

    def test_a_kernel_that_refuses_is_named_in_one_line(self):
        self.start()  # or skip
        program = Program(self, self.name, code=REFUSED)
        self.assertEqual(program.process.wait(60), UNAVAILABLE)
        self.assertEqual(
            program.errors, f"{self.name}: the kernel refuses io_uring: Operation not permitted\n"
        )

    def test_a_processor_that_cannot_run_liburing_is_named_in_one_line(self):
        program = Program(self, self.name, code=OLD_PROCESSOR)
        self.assertEqual(program.process.wait(PATIENCE), UNAVAILABLE)
        self.assertEqual(
            program.errors, f"{self.name}: liburing is compiled for processors with avx512\n"
        )


OLD_PROCESSOR = """
from pathlib import Path
sys.modules["liburing"] = sys  # any module: it is not used
Path.read_text = lambda path, encoding: "flags : fpu avx avx2"
"""
# What a container's seccomp filter does.
REFUSED = """
import errno, liburing, os
def refuse(entries, ring):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))
liburing.io_uring_queue_init = refuse
"""
