"""Sockets that systemd passes."""

import socket

from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from evserve.host.passed import check_passed, listed


class ListedTests(SynchronousTestCase):
    def names(self, **environ):
        return listed({"LISTEN_PID": "7", **environ}, 7)

    def test_sockets_without_names_are_kept(self):
        found = self.names(LISTEN_FDS="2")
        self.assertEqual(found.inheritedDescriptors(), [3, 4])

    def test_names_lead_to_their_sockets(self):
        found = self.names(LISTEN_FDS="2", LISTEN_FDNAMES="web:admin")
        self.assertEqual(found.inheritedNamedDescriptors(), {"web": 3, "admin": 4})

    def test_too_few_names_lose_no_socket(self):
        found = self.names(LISTEN_FDS="2", LISTEN_FDNAMES="web")
        self.assertEqual(found.inheritedNamedDescriptors(), {"web": 3, "unknown": 4})

    def test_what_is_for_another_process_or_makes_no_sense_is_nothing(self):
        for environ in ({"LISTEN_FDS": "1", "LISTEN_PID": "8"}, {"LISTEN_FDS": "x"}, {}):
            self.assertEqual(self.names(**environ).inheritedDescriptors(), [])


class CheckTests(SynchronousTestCase):
    def setUp(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.passed = ListenFDs([self.listener.fileno()], ["web"])

    def refusal(self, **arguments):
        return str(self.assertRaises(ValueError, check_passed, arguments, self.passed))

    def test_a_socket_may_be_named_or_counted(self):
        check_passed({"domain": "INET", "index": "0"}, self.passed)
        check_passed({"domain": "INET", "name": "web"}, self.passed)

    def test_a_wrong_index_says_how_many_there_are(self):
        self.assertIn("systemd passed 1, counted from 0", self.refusal(domain="INET", index="1"))
        self.assertIn("no socket x", self.refusal(domain="INET", index="x"))

    def test_a_wrong_name_says_which_there_are(self):
        self.assertEqual(
            self.refusal(domain="INET", name="wbe"), "no socket is named 'wbe' (there are: web)"
        )

    def test_a_wrong_domain_says_the_right_one(self):
        self.assertIn("needs domain=INET", self.refusal(domain="UNIX", index="0"))

    def test_no_sockets_at_all_is_said(self):
        self.passed = ListenFDs([])
        self.assertIn("systemd passed no sockets", self.refusal(domain="INET", index="0"))

    def test_a_connection_is_no_listener(self):
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        self.passed = ListenFDs([one.fileno()], ["web"])
        self.assertIn("does not listen", self.refusal(domain="UNIX", index="0"))
