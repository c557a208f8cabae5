"""Sharing listening sockets."""

from twisted.trial.unittest import SynchronousTestCase

from evserve.host.workers.sockets import without_systemd


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
