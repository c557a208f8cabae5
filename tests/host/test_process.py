"""The process: streams, status, limits, one-line errors, paths."""

import atexit
import errno
import io
import os
import resource
import signal
import sys
import threading
from pathlib import Path

from twisted.internet.error import CannotListenError
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.host import process
from evserve.host.process import check_paths, explain


class StreamTests(SynchronousTestCase):
    def test_closed_standard_streams_are_held_open(self):
        opened = []
        self.patch(os, "fstat", self.fstat)
        self.patch(os, "open", lambda path, flags: opened.append((path, flags)))
        process.open_standard_descriptors()
        self.assertEqual(opened, [(os.devnull, os.O_RDWR)] * 2)

    def test_a_closed_standard_error_can_be_written_to(self):
        self.patch(sys, "stderr", None)
        process.open_standard_descriptors()
        self.assertEqual(sys.stderr.fileno(), 2)

    def fstat(self, descriptor):
        if descriptor in (0, 2):
            raise OSError


class FileLimitTests(SynchronousTestCase):
    def limit(self, soft, hard):
        """Return what is set, and what is returned, for such limits."""
        given = []
        self.patch(resource, "getrlimit", lambda _: (soft, hard))
        self.patch(resource, "setrlimit", lambda _, limits: given.append(limits))
        return given, process.raise_file_limit()

    def test_the_soft_limit_becomes_the_hard_one(self):
        self.assertEqual(self.limit(1024, 4096), ([(4096, 4096)], 4096))

    def test_an_unlimited_hard_limit_is_capped(self):
        most, none = process.MAX_DESCRIPTORS, resource.RLIM_INFINITY
        self.assertEqual(self.limit(1024, none), ([(most, none)], most))
        self.assertEqual(self.limit(1024, most * 4), ([(most, most * 4)], most))

    def test_a_limit_that_is_high_enough_stays(self):
        most, none = process.MAX_DESCRIPTORS, resource.RLIM_INFINITY
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


class ThreadsTests(SynchronousTestCase):
    """The end of a process whose threads go on."""

    def setUp(self):
        self.handlers, self.timers, self.happened = {}, [], []
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.patch(signal, "setitimer", lambda _, seconds: self.timers.append(seconds))
        self.patch(os, "_exit", self.happened.append)

    def test_when_the_time_is_over_it_ends_and_names_them(self):
        release = threading.Event()
        for name, daemon in (("waited for", False), ("not", True)):
            thread = threading.Thread(target=release.wait, name=name, daemon=daemon)
            thread.start()
            self.addCleanup(thread.join)
            self.addCleanup(release.set)
        process.limit_exit(3.0, self.happened.append)
        self.assertEqual((self.timers, self.happened), ([3.0], []))
        self.handlers[signal.SIGALRM](signal.SIGALRM, None)
        names, status = self.happened
        self.assertIn("waited for", names)
        self.assertNotIn("not", names)
        self.assertEqual(status, 1)

    def test_it_ends_even_if_that_cannot_be_said(self):
        def give_up(names):
            raise ValueError

        process.limit_exit(3.0, give_up)
        self.assertRaises(ValueError, self.handlers[signal.SIGALRM], signal.SIGALRM, None)
        self.assertEqual(self.happened, [1])

    def test_without_a_limit_a_signal_ends_it_a_second_later(self):
        process.limit_exit(None, self.happened.append)
        self.assertEqual(self.timers, [])
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.handlers[signal.SIGINT](signal.SIGINT, None)
        self.assertEqual(self.timers, [1, 1])

    def test_a_hook_before_the_end_of_threads_is_not_called_in_a_fork(self):
        hooks = []
        self.patch(threading, "_register_atexit", hooks.append)
        process.before_threads_end(lambda: self.happened.append("called"))
        other = os.getpid() + 1
        self.patch(os, "getpid", lambda: other)
        hooks[0]()
        self.assertEqual(self.happened, [])
        process.before_threads_end(lambda: self.happened.append("called"))
        hooks[1]()
        self.assertEqual(self.happened, ["called"])


IN_USE = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class ExplainTests(SynchronousTestCase):
    def test_a_port_in_use_is_named_with_its_interface(self):
        self.assertEqual(
            explain(CannotListenError("::1", 9000, IN_USE)),
            "cannot listen on [::1]:9000: Address already in use",
        )

    def test_all_interfaces_are_a_star(self):
        for interface in ("", None):
            self.assertEqual(
                explain(CannotListenError(interface, 9000, IN_USE)),
                "cannot listen on *:9000: Address already in use",
            )

    def test_a_unix_socket_is_its_path(self):
        self.assertEqual(
            explain(CannotListenError(None, b"/run/echo", IN_USE)),
            "cannot listen on /run/echo: Address already in use",
        )

    def test_a_reason_that_is_no_system_error_is_quoted(self):
        self.assertEqual(
            explain(CannotListenError("::1", 1, "no such thing")),
            "cannot listen on [::1]:1: no such thing",
        )

    def test_a_system_error_names_its_file(self):
        self.assertEqual(
            explain(FileNotFoundError(errno.ENOENT, "No such file", "a.pem")),
            "No such file: a.pem",
        )
        link = FileNotFoundError(errno.ENOENT, "No such file", b"1234", None, b"/run/x.lock")
        self.assertEqual(explain(link), "No such file: /run/x.lock")
        self.assertEqual(explain(IN_USE), "Address already in use")

    def test_a_user_error_is_shown_without_its_type(self):
        for error in (UsageError("no such thing"), ValueError("no such thing")):
            self.assertEqual(explain(error), "no such thing")
        self.assertEqual(
            explain(OverflowError("bind(): port must be 0-65535.")),
            "bind(): port must be 0-65535.",
        )

    def test_a_message_of_several_lines_becomes_one(self):
        self.assertEqual(explain(UsageError("first\n second")), "first second")

    def test_an_error_without_a_message_is_its_type(self):
        self.assertEqual(explain(ValueError()), "ValueError")
        self.assertEqual(explain(OSError()), "OSError")

    def test_anything_else_is_a_defect_and_keeps_its_type(self):
        self.assertEqual(explain(KeyError("x")), "KeyError: 'x'")


class CheckPathsTests(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.file = self.folder / "file"
        self.file.write_text("")

    def refusal(self, **options):
        texts = {name: str(value) for name, value in options.items()}
        return str(self.assertRaises(UsageError, check_paths, texts))

    def test_usable_paths_are_accepted(self):
        for options in (
            {},
            {"logfile": None, "nodaemon": 1, "pidfile": "", "rundir": "."},
            {"logfile": "-"},
            {"logfile": "new.log", "pidfile": "new.pid"},
            {"logfile": str(self.file), "rundir": str(self.folder)},
            {"logfile": "/nowhere/x", "syslog": True},
            {"logfile": "/nowhere/x", "logger": "a.b"},
            {"chroot": str(self.folder), "rundir": "/nowhere", "pidfile": "/nowhere/x"},
        ):
            self.assertIsNone(check_paths(options), options)

    def test_a_file_in_a_folder_that_is_not_there(self):
        for option in ("logfile", "pidfile"):
            line = f"twistd's --{option} /nowhere/x: No such file or directory"
            self.assertEqual(self.refusal(**{option: "/nowhere/x"}), line)

    def test_a_folder_in_place_of_a_file(self):
        line = f"twistd's --logfile {self.folder}: Is a directory"
        self.assertEqual(self.refusal(logfile=self.folder), line)

    def test_a_file_in_place_of_a_folder(self):
        for option in ("rundir", "chroot"):
            line = f"twistd's --{option} {self.file}: Not a directory"
            self.assertEqual(self.refusal(**{option: self.file}), line)

    def test_a_daemon_writes_a_log_here_unless_told_otherwise(self):
        self.patch(os, "access", lambda _, mode: mode != os.W_OK)
        line = "twistd's --logfile twistd.log: Permission denied"
        error = self.assertRaises(UsageError, check_paths, {"nodaemon": 0})
        self.assertEqual(str(error), line)

    def test_a_folder_that_may_not_be_entered(self):
        self.patch(os, "access", lambda _, mode: mode != os.X_OK)
        line = f"twistd's --rundir {self.folder}: Permission denied"
        self.assertEqual(self.refusal(rundir=self.folder), line)
