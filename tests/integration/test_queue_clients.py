"""Clients by other authors against a real server: greenstalk, and jackd from npm."""

import shutil
import subprocess
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.queue_server import QueueServer


try:
    import greenstalk
except ImportError:
    greenstalk = None

SCRIPT = """
const Jackd = require("jackd").default ?? require("jackd");
const assert = require("assert");
(async () => {
  const client = new Jackd();
  await client.connect({ host: "127.0.0.1", port: Number(process.argv[1]) });
  await client.use("mail");
  await client.watch("mail");
  await client.ignore("default");
  const id = await client.put({ subject: "h\\u00e9llo" }, { priority: 7, ttr: 30 });
  const job = await client.reserve();
  assert.strictEqual(String(job.id), String(id));
  assert.deepStrictEqual(JSON.parse(job.payload), { subject: "h\\u00e9llo" });
  await client.touch(job.id);
  await client.release(job.id, { priority: 1, delay: 0 });
  const again = await client.reserveWithTimeout(1);
  await client.bury(again.id);
  assert.strictEqual(String((await client.peekBuried()).id), String(id));
  await client.kick(5);
  await client.delete(id);
  const tubes = await client.listTubes();
  assert(JSON.stringify(tubes).includes("mail"));
  await client.disconnect();
  console.log("well done");
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
"""


class GreenstalkTests(SynchronousTestCase):
    def setUp(self):
        if greenstalk is None:
            raise SkipTest("greenstalk is not installed")
        self.server = QueueServer(self, "--store", Path(self.mktemp()).absolute())
        self.client = self.open()

    def open(self, **options):
        client = greenstalk.Client(("127.0.0.1", self.server.port), **options)
        self.addCleanup(client.close)
        return client

    def test_the_life_of_a_job(self):
        producer, worker = self.open(use="mail"), self.open(watch=["mail", "other"])
        number = producer.put("\xe9", priority=3, ttr=20)
        job = worker.reserve(timeout=1)
        self.assertEqual((job.id, job.body), (number, "\xe9"))
        worker.touch(job)
        worker.release(job, priority=5)
        self.assertEqual(producer.peek_ready().id, number)
        worker.bury(worker.reserve())
        self.assertEqual(producer.peek_buried().id, number)
        stats = worker.stats_job(number)
        self.assertEqual((stats["state"], stats["tube"]), ("buried", "mail"))
        self.assertEqual((stats["reserves"], stats["releases"], stats["buries"]), (2, 1, 1))
        self.assertEqual(producer.kick(10), 1)
        worker.delete(worker.reserve_job(number))
        self.assertRaises(greenstalk.NotFoundError, worker.peek, number)

    def test_refusals(self):
        self.assertRaises(greenstalk.JobTooBigError, self.client.put, "x" * 65536)
        self.assertRaises(greenstalk.TimedOutError, self.client.reserve, timeout=0)
        self.assertRaises(greenstalk.NotIgnoredError, self.client.ignore, "default")
        self.client.put("x", ttr=1)
        self.client.reserve()
        with self.assertRaises(greenstalk.DeadlineSoonError):
            for _ in range(20):  # a reserve after the TTR gets the event again
                self.client.reserve()

    def test_looking(self):
        self.client.put("x", delay=900)
        self.assertEqual(self.client.peek_delayed().body, "x")
        self.client.pause_tube("default", 300)
        stats = self.client.stats_tube("default")
        self.assertEqual((stats["current-jobs-delayed"], stats["pause"]), (1, 300))
        self.assertEqual(self.client.stats()["current-jobs-delayed"], 1)
        self.assertEqual(self.client.tubes(), ["default"])
        self.assertEqual((self.client.using(), self.client.watching()), ("default", ["default"]))


def has_jackd():
    """Whether Node.js is installed and finds jackd, a client from npm."""
    look = ["node", "-e", 'require.resolve("jackd")']
    return (
        shutil.which("node") is not None
        and subprocess.run(look, check=False, capture_output=True).returncode == 0
    )


class NpmTests(SynchronousTestCase):
    def test_jackd(self):
        if not has_jackd():
            raise SkipTest("jackd is not installed: npm install jackd, and set NODE_PATH")
        server = QueueServer(self)
        done = subprocess.run(
            ["node", "-e", SCRIPT, str(server.port)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(done.stdout.strip(), "well done", done.stderr)
