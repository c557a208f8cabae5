"""A run against servers that lie, close, or are not there."""

import errno

from twisted.internet import error

from tests.load.memory_server import RunTestCase, begin


class BadServerTests(RunTestCase):
    def test_a_lie_is_told_once_for_each_connection(self):
        self.reactor.answer = lambda data: data[:-1] + b"!"
        report = self.report(3, seconds=1, connections=3, depth=4)
        self.assertEqual((report.wrong, report.unanswered), (3, 12))
        self.assertRegex(report.first_wrong, "byte 31 is 0x21")
        self.assertEqual(self.reactor.aborted, 3)

    def test_an_honest_connection_goes_on_beside_a_liar(self):
        _, report = begin(self.reactor, seconds=1, connections=2)
        self.pass_time(0.55)
        liar = self.reactor.lines[0]
        self.patch(liar, "abortConnection", lambda: None)
        liar.deliver(b"spam")
        liar.deliver(b"more")
        self.pass_time(2)
        found = self.successResultOf(report)
        self.assertEqual((found.wrong, found.unanswered), (1, 1))
        self.assertGreaterEqual(found.latencies.count, 14)

    def test_a_server_that_never_answers_is_given_up(self):
        self.reactor.delay = None
        report = self.report(4, seconds=1, timeout=2)
        self.assertEqual((report.unanswered, report.failure), (2, "nothing was answered"))

    def test_a_count_does_not_wait_for_ever_either(self):
        _, report = begin(self.reactor, seconds=None, count=10, timeout=2)
        self.pass_time(0.35)
        self.reactor.delay = None
        self.pass_time(9)
        failure = self.successResultOf(report).failure
        self.assertRegex(failure, r"\d of 10 messages were not answered")

    def test_a_server_that_closes_ends_the_run(self):
        _, report = begin(self.reactor, seconds=10)
        self.pass_time(0.5)
        for line in self.reactor.lines:
            line.lose(error.ConnectionDone())
        found = self.successResultOf(report)
        self.assertEqual(found.connections.lost, {"closed by the server": 2})
        self.assertLess(found.seconds, 1)

    def test_a_server_that_closes_at_once_ends_it_too(self):
        _, report = begin(self.reactor, seconds=10, warm_up=1)
        for line in self.reactor.lines:
            line.lose(error.ConnectionDone())
        self.assertEqual(self.successResultOf(report).failure, "nothing was answered")

    def test_failures_are_counted_by_cause(self):
        refused = error.ConnectionRefusedError(errno.ECONNREFUSED, "no")
        self.reactor.refusals = [
            refused,
            refused,
            error.TimeoutError(),
            error.DNSLookupError("no such host"),
            ValueError(),
        ]
        report = self.report(2, seconds=1, connections=6)
        self.assertEqual(
            report.connections.failed,
            {
                "Connection refused": 2,
                "timed out": 1,
                "DNS lookup failed: no such host.": 1,
                "ValueError": 1,
            },
        )
        self.assertEqual((report.connections.opened, report.failure), (1, None))

    def test_nothing_connects(self):
        self.reactor.refusals = [error.ConnectionRefusedError(errno.ECONNREFUSED, "no")] * 2
        report = self.report(0, seconds=1)
        self.assertRegex(report.failure, "cannot connect to tcp:127.0.0.1:1: Connection refused")
        self.assertIsNone(report.saturated)

    def test_another_source_address_is_used_when_ports_run_out(self):
        self.reactor.refusals = [error.getConnectError((errno.EADDRNOTAVAIL, "no port"))] * 2
        report = self.report(2, seconds=1, connections=3)
        self.assertEqual((report.connections.opened, report.connections.failed), (3, {}))
        self.assertEqual(self.reactor.tcpClients[-1][4], ("127.0.0.3", 0))
