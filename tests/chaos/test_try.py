import time, subprocess
from twisted.trial.unittest import SynchronousTestCase
from tests.chaos.workload import Workload
from tests.integration.queue_server import QueueServer
class T(SynchronousTestCase):
    def test_it(self):
        server = QueueServer(self, "--store", self.mktemp())
        w = Workload(self, f"beanstalk://127.0.0.1:{server.port}")
        w.watch()
        w.wait_for(1000)
        def is_empty():
            w.read()
            with server.connect() as c:
                s = c.stats()
                return all(int(s[b"current-jobs-%b" % x])==0 for x in (b"ready",b"reserved",b"delayed"))
        w.finish(is_empty)
        w.check()
        print(w.summary(), w.stall, dict(w.counts))
