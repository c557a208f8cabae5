"""Commands in child processes, with other limits, folders or standard streams."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.trial.unittest import TestCase

from tests.integration.processes import TWISTD, Child, on_chosen_reactor, run_python
from tests.integration.stream_client import StreamClient


EVSERVE = (sys.executable, str(TWISTD), "-n", "evserve")


class CommandCase(TestCase):
    """A test case whose commands run in a folder of its own."""

    def setUp(self):
        self.forks, self.forked = None, 0
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run_command(self, *words, streams=(0, 1, 2), folder=None, env=None):
        """Start a command; standard streams that are not in `streams` are closed."""
        from twisted.internet import reactor

        child = Child()
        self.addCleanup(lambda: None if child.ended.called else child.stop("KILL"))
        words = [os.fsencode(word) for word in on_chosen_reactor(words)]
        pipes = {number: "w" if number == 0 else "r" for number in streams}
        reactor.spawnProcess(
            child,
            words[0],
            words,
            {**os.environ, **(env or {})},
            str(folder or self.folder),
            childFDs=pipes,
        )
        return child

    def evserve(self, *words, **how):
        """Start `twistd -n evserve WORDS...`."""
        return self.run_command(*EVSERVE, *words, **how)

    def evserve_after(self, script, *words, **how):
        """Start it from a shell, after `script`, such as `ulimit -n 64`."""
        return self.run_command(
            "/bin/sh", "-c", f'{script} && exec "$@"', "sh", *EVSERVE, *words, **how
        )

    async def check_rows(self, rows, check):
        """Await `check(*row)` for each row, four at a time; show every failure."""
        limit = DeferredSemaphore(4)
        results = await DeferredList(
            [limit.run(Deferred.fromCoroutine, check(*row)) for row in rows], consumeErrors=True
        )
        failures = [str(result.value) for succeeded, result in results if not succeeded]
        self.assertEqual(failures, [], "\n".join(failures))

    async def check_error(self, words, line, *, status=1):
        """Check that `evserve WORDS...` fails, with one line on standard error as its output."""
        command = on_chosen_reactor([*EVSERVE[1:], *words])
        result = await self.run_in_fork(command)
        self.assertEqual(result, [status, "", f"evserve: {line}\n"], words)

    async def run_in_fork(self, command):
        """Return the exit status, output and errors of a command of `twistd`."""
        if self.forks is None:
            program = Path(__file__).with_name("forked_commands.py")
            self.forks = run_python(self, "-P", program)
        self.forks.transport.write(json.dumps([command, str(self.folder)]).encode() + b"\n")
        self.forked += 1
        number = self.forked
        lines = await self.forks.until(
            lambda: self.forks.out.count(b"\n") >= number and self.forks.out.splitlines()
        )
        return json.loads(lines[number - 1])

    async def connect(self, endpoint):
        """Return a client of an endpoint such as `tcp:127.0.0.1:4711`."""
        from twisted.internet import reactor
        from twisted.internet.endpoints import clientFromString, connectProtocol

        client = StreamClient()
        await connectProtocol(clientFromString(reactor, endpoint), client)
        self.addCleanup(client.hang_up)
        return client

    async def check_echo(self, endpoint):
        """Check that a server is an echo server; return the client."""
        client = await self.connect(endpoint)
        client.transport.write(b"hello")
        self.assertEqual(await client.receive(5), b"hello")
        return client
