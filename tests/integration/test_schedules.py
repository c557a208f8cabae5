"""Schedules of workers that are killed, on a queue in a file."""

import json
import math
import sqlite3
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.processes import spawn


PLUGIN = """
from evserve.plugin import Schedule
tick = Schedule("* * * * * *", "tick")
wrong = Schedule("0 25 * * *", "wrong")
"""


class KilledWorkerTests(TestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        plugins = self.folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        plugins.joinpath("tick_plugin.py").write_text(PLUGIN)

    def stored(self):
        """Return the schedule's position, and the times of the ticks that were put."""
        with closing(sqlite3.connect(self.folder / "queue.db")) as store:
            positions = store.execute("SELECT number FROM sequence").fetchall()
            bodies = store.execute("SELECT body FROM event ORDER BY id").fetchall()
        ticks = [datetime.fromisoformat(json.loads(body)["tick"]) for (body,) in bodies]
        return [number for (number,) in positions], [tick.timestamp() for tick in ticks]

    async def test_each_tick_is_put_once_and_with_its_position(self):
        from twisted.internet import reactor

        last = 0.0
        for milliseconds in (0, 2, 5):  # around the time at which a tick is put
            child = spawn(self, "work", "--queue", "sqlite:queue.db", folder=self.folder)
            await child.until(lambda child=child: b" serves work" in child.err)
            self.assertIn(b"plugin wrong cannot be used: '0 25 * * *' is not", child.err)
            while not (ticks := self.stored()[1]) or ticks[-1] == last:
                await deferLater(reactor, 0.01)
            wait = math.ceil(time.time()) + milliseconds / 1000 - time.time()
            await deferLater(reactor, wait)
            self.assertIsNone(await child.stop("KILL"))
            [position], ticks = self.stored()
            self.assertEqual(ticks, sorted(set(ticks)))
            last = ticks[-1]
            self.assertEqual(last, position)
