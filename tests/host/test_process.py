"""The process: streams, status, signals, limits."""

import atexit
import errno
import io
import os
import resource
import signal
import sys

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from evserve.host import process


class StreamTests(SynchronousTestCase):
    def test_closed_standard_streams_are_held_open(self):
        opened = []
        self.patch(os, "fstat", self.fstat)
        self.patch(os, "open", lambda path, flags: opened.append((path, flags)))
        process.hold_standard_descriptors()
        self.assertEqual(opened, [(os.devnull, os.O_RDWR)] * 2)

    def fstat(self, descriptor):
        if descriptor in (0, 2):
            raise OSError


class LimitTests(SynchronousTestCase):
    def limit(self, soft, hard):
        """Return what is set, and what is returned, for such limits."""
        given = []
        self.patch(resource, "getrlimit", lambda _: (soft, hard))
        self.patch(resource, "setrlimit", lambda _, limits: given.append(limits))
        return given, process.raise_file_limit()

    def test_the_soft_limit_becomes_the_hard_one(self):
        self.assertEqual(self.limit(1024, 4096), ([(4096, 4096)], 4096))

    def test_no_limit_is_too_many(self):
        most, none = process.MOST_DESCRIPTORS, resource.RLIM_INFINITY
        self.assertEqual(self.limit(1024, none), ([(most, none)], most))
        self.assertEqual(self.limit(1024, most * 4), ([(most, most * 4)], most))

    def test_a_limit_that_is_high_enough_stays(self):
        most, none = process.MOST_DESCRIPTORS, resource.RLIM_INFINITY
        self.assertEqual(self.limit(4096, 4096), ([], 4096))
        self.assertEqual(self.limit(most * 2, most * 2), ([], most * 2))
        self.assertEqual(self.limit(none, none), ([], most))


class Full(io.StringIO):
    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class StatusTests(SynchronousTestCase):
    def test_the_status_comes_after_all_other_exit_hooks(self):
        happened, hooks = [], []
        self.patch(atexit, "register", hooks.append)
        self.patch(atexit, "unregister", lambda hook: happened.append(hook is hooks[0]))
        self.patch(atexit, "_run_exitfuncs", lambda: happened.append("others"))
        self.patch(os, "_exit", happened.append)
        process.exit_with(3)
        self.assertEqual(happened, [])
        hooks[0]()
        self.assertEqual(happened, [True, "others", 3])

    def test_streams_that_were_closed_need_no_flush(self):
        self.assertEqual(self.ends_with(None), [1])

    def test_a_stream_that_cannot_be_written_changes_no_status(self):
        closed = io.StringIO()
        closed.close()
        for stream in (Full(), closed):
            self.assertEqual(self.ends_with(stream), [1])

    def ends_with(self, stream):
        """Return the statuses of a process whose standard output is `stream`."""
        hooks, statuses = [], []
        self.patch(atexit, "register", hooks.append)
        self.patch(atexit, "_run_exitfuncs", lambda: None)
        self.patch(os, "_exit", statuses.append)
        self.patch(sys, "__stdout__", stream)
        process.exit_with(1)
        hooks[0]()
        return statuses


class SignalTests(SynchronousTestCase):
    def test_both_signals_reach_the_reactor_by_name(self):
        handlers, names, hooks = {}, [], []
        self.patch(signal, "signal", handlers.__setitem__)
        self.patch(atexit, "register", lambda *hook: hooks.append(hook))
        reactor = MemoryReactorClock()
        reactor.callFromThread = lambda function, *args: function(*args)
        process.on_stop_signals(reactor, names.append)
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number](number, None)
        self.assertEqual(names, ["SIGINT", "SIGTERM"])
        for function, *arguments in hooks:
            function(*arguments)
        ignored = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}
        self.assertEqual(handlers, ignored)
