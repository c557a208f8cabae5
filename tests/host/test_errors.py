"""Errors that a person can mend, in one line."""

import errno
import os

from twisted.internet.error import CannotListenError
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.errors import explain


IN_USE = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class ExplainTests(SynchronousTestCase):
    def test_a_port_in_use_is_named_with_its_interface(self):
        self.assertEqual(
            explain(CannotListenError("::1", 9000, IN_USE)),
            "cannot listen on [::1]:9000: Address already in use",
        )

    def test_every_interface_is_a_star(self):
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

    def test_a_mistake_of_the_user_is_said_without_its_type(self):
        for error in (UsageError("no such thing"), ValueError("no such thing")):
            self.assertEqual(explain(error), "no such thing")
        self.assertEqual(
            explain(OverflowError("bind(): port must be 0-65535.")),
            "bind(): port must be 0-65535.",
        )

    def test_a_message_of_several_lines_becomes_one(self):
        self.assertEqual(explain(UsageError("first\n second")), "first second")

    def test_an_error_without_words_is_named(self):
        self.assertEqual(explain(ValueError()), "ValueError")
        self.assertEqual(explain(OSError()), "OSError")

    def test_anything_else_is_a_defect_and_keeps_its_type(self):
        self.assertEqual(explain(KeyError("x")), "KeyError: 'x'")
