"""Models whose calls wait: one process, many processes, many threads, a pool of threads."""

import os
import resource
import signal

from twisted.trial.unittest import SynchronousTestCase

from tests.io_models.behaviour import DescriptorLimit, ModelBehaviour
from tests.io_models.programs import connect, peek, receive, receive_rest


# RLIMIT_NPROC does not apply to root, so this fork fails as it does for other users.
LIMITED_FORK = """
import errno, itertools, os
def fork(real=os.fork, count=itertools.count()):
    if next(count):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return real()
os.fork = fork
"""
SMALL = 4 << 20  # bytes of address space: less than the program has


class BlockingTests(ModelBehaviour, SynchronousTestCase):
    name = "blocking"
    at_once = 1

    def test_the_second_client_waits_until_the_first_has_closed(self):
        program = self.start()
        first, second = connect(self, program), connect(self, program)
        second.sendall(b"second")
        for _ in range(20):  # the second one came before all of these, and is not served
            self.converse(first, b"first")
        self.assertRaises(BlockingIOError, peek, second)
        first.close()
        self.assertEqual(receive(second, 6), b"SECOND")


class ForkPerConnectionTests(ModelBehaviour, SynchronousTestCase):
    name = "fork_per_connection"

    def test_its_children_go_with_it_however_it_ends(self):
        program = self.start()
        client = connect(self, program)
        self.converse(client, b"hello")
        program.stop(signal.SIGKILL)
        self.assertEqual(receive_rest(client), b"")

    def test_each_client_has_a_process_and_leaves_no_zombie(self):
        program = self.start()
        clients = [connect(self, program) for _ in range(5)]
        for client in clients:
            self.converse(client, b"hello")
        self.assertEqual(len(set(children_of(program))), 5)
        for client in clients:
            client.shutdown(1)
            self.assertEqual(receive_rest(client), b"")
        # The FIN of a child comes from its exit at the earliest; another one's whole life later
        # it is gone, and if it were a zombie it would still be among the children.
        self.spin_until(lambda: not children_of(program))

    def spin_until(self, condition):
        for _ in range(1_000_000):
            if condition():
                return
            os.sched_yield()
        self.fail("the condition did not become true")

    def test_a_fork_that_fails_closes_the_connection_and_says_why_once(self):
        program = self.start(code=LIMITED_FORK)
        first = connect(self, program)
        self.converse(first, b"hello")
        for _ in range(3):
            self.assertEqual(receive_rest(connect(self, program)), b"")
        self.converse(first, b"still there")
        self.assertEqual(
            program.errors, "fork_per_connection: fork: Resource temporarily unavailable\n"
        )


class ThreadPerConnectionTests(DescriptorLimit, ModelBehaviour, SynchronousTestCase):
    name = "thread_per_connection"
    out = "[Errno 24] Too many open files"

    def test_a_thread_that_cannot_be_started_closes_the_connection_and_says_why_once(self):
        program = self.start()
        first = connect(self, program)
        self.converse(first, b"hello")
        # No address space for another stack.
        resource.prlimit(program.process.pid, resource.RLIMIT_AS, (SMALL, SMALL))
        for _ in range(3):
            self.assertEqual(receive_rest(connect(self, program)), b"")
        self.converse(first, b"still there")
        self.assertEqual(program.errors, "thread_per_connection: can't start new thread\n")


class ThreadPoolTests(ModelBehaviour, SynchronousTestCase):
    name = "thread_pool"
    at_once = 8

    def test_it_serves_exactly_its_size_at_a_time(self):
        program = self.start()
        served = [connect(self, program) for _ in range(8)]
        for client in served:
            self.converse(client, b"in")
        ninth = connect(self, program)
        ninth.sendall(b"ninth")
        for _ in range(20):
            for client in served:
                self.converse(client, b"more")
        self.assertRaises(BlockingIOError, peek, ninth)
        served[3].close()
        self.assertEqual(receive(ninth, 5), b"NINTH")


def children_of(program):
    """Return the process ids of a program's children, zombies included."""
    pid = program.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
        return file.read().split()
