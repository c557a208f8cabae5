"""Worker processes on one queue, and the check of what they were told against what happened."""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from tests.chaos import SEED
from tests.documents import ROOT


PATIENCE = 120
"""Seconds to wait for what ought to happen soon, on a machine that may be busy."""

CLOCK_STEP = 0.005
"""Seconds by which the clock of the database may run faster than the one of the workers."""

SUCCESSES = ("put", "handled", "retried")


class Workload:
    """Processes that put and handle events until `finish`; see worker.py.

    stall: the longest time in seconds between two calls of one worker
    that succeeded.
    """

    def __init__(self, test, url, *options, workers=2, lanes=4, seed=SEED, env=None):
        self.test, self.url, self.seed = test, url, seed
        self.command = [str(lanes), url, *map(str, options)]
        self.folder = Path(test.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.processes, self.logs = [], []
        self.asked = {}  # body -> when it may come at the earliest
        self.refused = set()
        self.ids = defaultdict(set)  # body -> ids under which it was seen
        self.back = {}  # body -> attempts of a reservation after it was acknowledged
        self.overran = set()  # bodies of which a reservation ended before they were settled
        self.put = set()  # bodies of which the put was acknowledged
        self.reserved = defaultdict(list)  # body -> attempts of each reservation
        self.lateness = {}  # body -> seconds from its earliest time to its first reservation
        self.handled = defaultdict(list)  # body -> attempts of each acknowledgement
        self.successes = []  # of each worker
        self.finishing = False
        self.stall = 0.0
        self.last = {}  # when each worker's last call succeeded
        for number in range(workers):
            self.start(env=env[number] if env else None)
        self.wait_for(10 * workers)

    def start(self, env=None):
        """Start a worker."""
        name = f"w{len(self.processes)}"
        with (
            (self.folder / name).open("wb") as out,
            (self.folder / f"{name}.err").open("wb") as err,
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker", name, str(self.seed), *self.command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )
        self.processes.append(process)
        self.successes.append(0)
        self.logs.append((self.folder / name).open("rb"))
        self.test.addCleanup(self._end, process, self.logs[-1])

    def _end(self, process, log):
        process.kill()
        process.wait()
        process.stdin.close()
        log.close()

    def tell(self, command, number=None):
        """Send a command to one worker, or to all that run."""
        for process in self.processes if number is None else [self.processes[number]]:
            if process.poll() is None:
                process.stdin.write(f"{command}\n".encode())
                process.stdin.flush()

    def kill(self, number):
        """Kill a worker with SIGKILL."""
        self.processes[number].kill()
        self.processes[number].wait()

    def read(self):
        """Read what the workers have written; return how many calls have succeeded in all."""
        lines = []
        for number, log in enumerate(self.logs):
            while (line := log.readline()).endswith(b"\n"):
                at, *words = line.decode().split()
                lines.append((float(at), number, *words))
            log.seek(-len(line), 1)  # a line that is not complete yet
        for at, number, what, body, event_id, attempts in sorted(lines):
            self._note(at, what, body, event_id, int(attempts))
            if what in SUCCESSES:
                self.successes[number] += 1
                if not self.finishing:
                    self.stall = max(self.stall, at - self.last.get(number, at))
                self.last[number] = at
        return sum(self.successes)

    def _note(self, at, what, body, event_id, attempts):
        if what == "ask":
            self.asked[body] = at + float(event_id)  # the delay
            return
        if what == "refused":
            self.refused.add(body)
            return
        self.ids[body].add(event_id)
        if what == "put":
            self.put.add(body)
        elif what == "reserved":
            if body not in self.reserved and body in self.asked:
                self.lateness[body] = at - self.asked[body]
            # An answer that comes late may be about an attempt before.
            if body in self.handled and attempts > self.handled[body][0]:
                self.back[body] = attempts
            self.reserved[body].append(attempts)
        elif what == "overran":
            self.overran.add(body)
        elif what == "handled":
            self.handled[body].append(attempts)

    def wait_for(self, successes):
        """Wait until so many calls more have succeeded."""
        target = self.read() + successes
        self.wait_until(lambda: self.read() >= target)

    def wait_for_each(self, successes):
        """Wait until so many calls more of each worker that runs have succeeded."""
        self.read()
        targets = {
            number: self.successes[number] + successes
            for number, process in enumerate(self.processes)
            if process.poll() is None
        }

        def reached():
            self.read()
            return all(self.successes[number] >= least for number, least in targets.items())

        self.wait_until(reached)

    def wait_for_refusals(self, count):
        """Wait until so many puts more were refused because the queue was full."""
        self.read()
        target = len(self.refused) + count
        self.wait_until(lambda: self.read() and len(self.refused) >= target)

    def wait_until(self, condition):
        """Wait until `condition()`, while all workers run."""
        end = time.monotonic() + PATIENCE
        while not condition():
            ended = any(
                process.poll() not in (None, -signal.SIGKILL) for process in self.processes
            )
            if ended or time.monotonic() > end:
                raise AssertionError(f"nothing in {PATIENCE} s\n{self.errors()}")
            time.sleep(0.01)

    def errors(self):
        """Return what the workers wrote to standard error, the last lines of each."""
        files = sorted(self.folder.glob("*.err"))
        return "\n".join(f"{file.name}: {file.read_text()[-3000:]}" for file in files)

    def finish(self, is_empty):
        """Put nothing more, wait until the queue is empty, and end the workers."""
        self.read()
        self.finishing = True
        self.tell("stop")
        self.wait_until(is_empty)
        self.tell("quit")
        for process in self.processes:
            if process.returncode is None and process.wait(PATIENCE):
                raise AssertionError(self.errors())
        self.read()
        for file in self.folder.glob("*.err"):
            self.test.assertNotIn("Traceback", file.read_text())

    def check(self, effects=None):
        """Check that the queue kept its promises.

        effects: for each body, the number of rows that its handlers have committed; without it an
        effect is an acknowledgement that was answered.
        """
        test = self.test
        seen = self.reserved.keys() if effects is None else effects.keys()
        lost = sorted(self.put - seen)
        test.assertEqual(lost, [], "acknowledged and gone")
        test.assertEqual(sorted(seen - self.asked.keys()), [], "never put")
        test.assertEqual(sorted(seen & self.refused), [], "refused and stored all the same")
        stored_twice = {body: ids for body, ids in self.ids.items() if len(ids) > 1}
        test.assertEqual(stored_twice, {}, "a put was repeated")
        twice = {body: attempts for body, attempts in self.handled.items() if len(attempts) > 1}
        test.assertEqual(twice, {}, "acknowledged twice")
        test.assertEqual(self.back, {}, "came again after it was acknowledged")
        early = {body: seconds for body, seconds in self.lateness.items() if seconds < -CLOCK_STEP}
        test.assertEqual(early, {}, "came before its delay was over")
        if effects is not None:
            twice = {body: count for body, count in effects.items() if count != 1}
            test.assertEqual(twice, {}, "an effect happened twice")

    def summary(self):
        """Return the figures of this load in one line."""
        again = sum(len(attempts) - 1 for attempts in self.reserved.values() if attempts)
        unknown = len(self.asked) - len(self.put) - len(self.refused)
        return (
            f"{len(self.put)} puts acknowledged, {unknown} unknown, {len(self.refused)} refused; "
            f"{again} deliveries repeated; longest stall {self.stall:.1f} s"
        )
