"""What a worker is told about the sockets that it inherits."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.host.workers.sockets import Assignment, take_assignment, without_systemd


class AssignmentTests(SynchronousTestCase):
    def test_it_passes_through_the_environment_and_is_removed_from_it(self):
        assignment = Assignment(2, {("echo", "tcp:0"): 5, ("echo", "unix:a b"): 6})
        environ = assignment.environment({"HOME": "/"})
        self.assertEqual(take_assignment(environ), assignment)
        self.assertEqual(environ, {"HOME": "/"})
        self.assertIsNone(take_assignment(environ))

    def test_the_variables_of_systemd_are_not_for_workers(self):
        told = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "LANG": "C"}
        environ = Assignment(1, {}).environment(told)
        take_assignment(environ)
        self.assertEqual(environ, {"LANG": "C"})


class WithoutSystemdTests(SynchronousTestCase):
    def test_only_a_systemd_endpoint_is_replaced(self):
        table = {
            "tcp:0": "tcp:0",
            "systemd:domain=INET:index=0": "tcp:0",
            "haproxy:systemd:domain=UNIX:name=a": "haproxy:tcp:0",
            "unix:/run/systemd": "unix:/run/systemd",
        }
        for written, expected in table.items():
            self.assertEqual(without_systemd(written), expected)
