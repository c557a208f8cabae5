"""systemd: notifications and socket activation."""

import socket
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.systemd import (
    check_inherited_socket,
    notifier_from_environment,
    parse_listen_fds,
)


class NotifierTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()

    def listen(self, address):
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(receiver.close)
        receiver.bind(address)
        receiver.setblocking(False)
        self.receiver = receiver

    def received(self):
        got = []
        while True:
            try:
                got.append(self.receiver.recv(4096).decode())
            except BlockingIOError:
                return got

    def notifier(self, pid=7, **environ):
        self.environ = environ
        return notifier_from_environment(self.clock, self.environ, pid)

    def at_path(self, **environ):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name, "notify"))
        self.listen(path)
        return self.notifier(NOTIFY_SOCKET=path, **environ)

    def test_ready_and_stopping_come_with_a_status(self):
        notifier = self.at_path()
        notifier.ready("Serving echo")
        notifier.stopping("Draining")
        self.assertEqual(
            self.received(), ["READY=1\nSTATUS=Serving echo", "STOPPING=1\nSTATUS=Draining"]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_reload_has_a_begin_and_an_end(self):
        notifier = self.at_path(WATCHDOG_USEC="1000000")
        notifier.ready("Serving echo")
        notifier.reloading()
        notifier.reloaded()
        begin, end = self.received()[-2:]
        self.assertRegex(begin, r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
        self.assertEqual(end, "READY=1")

    def test_the_socket_may_be_abstract(self):
        name = f"evserve-{id(self)}"
        self.listen(f"\0{name}")
        self.notifier(NOTIFY_SOCKET=f"@{name}").ready("x")
        self.assertEqual(len(self.received()), 1)

    def test_the_watchdog_is_fed_at_half_its_time_until_the_end(self):
        notifier = self.at_path(WATCHDOG_USEC="4000000", WATCHDOG_PID="7")
        notifier.ready("x")
        self.received()
        notifier.stopping("y")
        self.clock.pump([2, 2])
        self.assertEqual(self.received()[1:], ["WATCHDOG=1"] * 2)

    def test_a_watchdog_without_a_pid_is_ours(self):
        self.assertEqual(self.notifier(WATCHDOG_USEC="500000").watchdog, 0.5)

    def test_a_watchdog_of_another_process_or_a_malformed_one_is_ignored(self):
        self.assertIsNone(self.notifier(WATCHDOG_USEC="500000", WATCHDOG_PID="8").watchdog)
        for nonsense in ("", "0", "x"):
            self.assertIsNone(self.notifier(WATCHDOG_USEC=nonsense).watchdog)

    def test_the_variables_are_kept_from_child_processes(self):
        self.notifier(NOTIFY_SOCKET="/x", WATCHDOG_USEC="1", WATCHDOG_PID="7", HOME="/")
        self.assertEqual(self.environ, {"HOME": "/"})

    def test_without_systemd_nothing_happens(self):
        notifier = self.notifier()
        notifier.ready("x")
        notifier.stopping("x")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_socket_that_is_gone_is_logged(self):
        said = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        for address, reason in (
            ("/nowhere/at/all", "No such file or directory"),
            ("/" + "x" * 200, "AF_UNIX path too long"),
        ):
            self.notifier(NOTIFY_SOCKET=address).ready("x")
            line = f"systemd: cannot notify: {reason}"
            self.assertEqual(eventAsText(said.pop(), includeTimestamp=False)[-len(line) :], line)


class ParseListenFDsTests(SynchronousTestCase):
    def names(self, **environ):
        return parse_listen_fds({"LISTEN_PID": "7", **environ}, 7)

    def test_sockets_without_names_are_kept(self):
        found = self.names(LISTEN_FDS="2")
        self.assertEqual(found.inheritedDescriptors(), [3, 4])

    def test_names_lead_to_their_sockets(self):
        found = self.names(LISTEN_FDS="2", LISTEN_FDNAMES="web:admin")
        self.assertEqual(found.inheritedNamedDescriptors(), {"web": 3, "admin": 4})

    def test_too_few_names_lose_no_socket(self):
        found = self.names(LISTEN_FDS="2", LISTEN_FDNAMES="web")
        self.assertEqual(found.inheritedNamedDescriptors(), {"web": 3, "unknown": 4})

    def test_variables_of_another_process_and_malformed_ones_are_ignored(self):
        for environ in ({"LISTEN_FDS": "1", "LISTEN_PID": "8"}, {"LISTEN_FDS": "x"}, {}):
            self.assertEqual(self.names(**environ).inheritedDescriptors(), [])


class CheckInheritedSocketTests(SynchronousTestCase):
    def setUp(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.passed = ListenFDs([self.listener.fileno()], ["web"])

    def refusal(self, **arguments):
        return str(self.assertRaises(ValueError, check_inherited_socket, arguments, self.passed))

    def test_a_socket_may_be_named_or_counted(self):
        check_inherited_socket({"domain": "INET", "index": "0"}, self.passed)
        check_inherited_socket({"domain": "INET", "name": "web"}, self.passed)

    def test_a_wrong_index_says_how_many_there_are(self):
        self.assertIn("systemd passed 1, counted from 0", self.refusal(domain="INET", index="1"))
        self.assertIn("no socket x", self.refusal(domain="INET", index="x"))

    def test_a_wrong_name_says_which_there_are(self):
        self.assertEqual(
            self.refusal(domain="INET", name="wbe"), "no socket is named 'wbe' (known: web)"
        )

    def test_a_wrong_domain_says_the_right_one(self):
        self.assertIn("needs domain=INET", self.refusal(domain="UNIX", index="0"))

    def test_no_sockets_at_all_is_an_error(self):
        self.passed = ListenFDs([])
        self.assertIn("systemd passed no sockets", self.refusal(domain="INET", index="0"))

    def test_a_connection_is_no_listener(self):
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        self.passed = ListenFDs([one.fileno()], ["web"])
        self.assertIn("does not listen", self.refusal(domain="UNIX", index="0"))
