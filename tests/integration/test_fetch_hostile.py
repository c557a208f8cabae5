"""Against a hostile server: the correct response or a named error, in time."""

import json
import sys

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.http.hostile_server import CASES, MIB, hostile_factory


class HostileServerTests(TestCase):
    async def test_every_case_ends_within_its_time_and_memory(self):
        endpoint = TCP4ServerEndpoint(reactor, 0, backlog=200, interface="127.0.0.1")
        port = await endpoint.listen(hostile_factory(reactor))
        self.addCleanup(port.stopListening)
        arguments = ["-m", "tests.integration.fetch_hostile", str(port.getHost().port), *CASES]
        out, err, status = await getProcessOutputAndValue(sys.executable, arguments, env=None)
        self.assertEqual((status, err), (0, b""), err.decode())
        report = json.loads(out)
        got = {name: outcome for name, (outcome, _, _) in report["results"].items()}
        right = {
            name: case.right if isinstance(case.right, str) else case.right.decode()
            for name, case in CASES.items()
        }
        self.assertEqual(got, right)
        self.assertLess(max(seconds for _, seconds, _ in report["results"].values()), 60)
        self.assertLess(report["peak"], 100 * MIB)
        for name, (_, _, message) in report["results"].items():
            self.assertEqual(bool(message), isinstance(CASES[name].right, str), name)
