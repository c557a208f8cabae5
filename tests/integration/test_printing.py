"""Commands that only print: full disks, closed pipes, Ctrl-C."""

from tests.integration.commands import EVSERVE, CommandCase


PLUGIN = """
from evserve.plugin import ServicePlugin
it = ServicePlugin("late", "late_module", "Is slow to start.")
"""

# It listens already when its start waits.
WAITING = """
import sys, time
from twisted.application.service import MultiService
from twisted.internet.protocol import Factory
from twisted.python.usage import Options

class Waiting(MultiService):
    def startService(self):
        print("slow", end="", file=sys.__stderr__, flush=True)
        time.sleep(600)

def makeService(options, host):
    service = Waiting()
    host.listen(options, Factory()).setServiceParent(service)
    return service
"""


class OutputTests(CommandCase):
    """Commands that only print, when standard output is full or closed."""

    printing = (["--help"], ["--version"], ["--check"], ["services"], ["web", "--help"])

    def rows(self):
        return [(words, unbuffered) for words in self.printing for unbuffered in ("", "1")]

    async def test_a_full_disk_is_one_line(self):
        await self.check_rows(self.rows(), self.full)

    async def full(self, words, unbuffered):
        child = self.shell('exec "$@" >/dev/full', words, unbuffered)
        self.assertEqual(await child.ended, 1, words)
        self.assertIn(b"No space left on device\n", child.err)
        self.assertEqual(child.err.count(b"\n"), 1, child.err)

    async def test_a_closed_pipe_is_silent(self):
        await self.check_rows(self.rows(), self.left)

    async def left(self, words, unbuffered):
        # The reader is gone before anything is written.
        child = self.shell(
            'mkfifo $$; exec 3<>$$ 4>$$ 3<&-; rm $$; exec "$@" >&4', words, unbuffered
        )
        self.assertEqual((await child.ended, child.err), (1, b""), words)

    async def test_closed_standard_output_is_silent(self):
        await self.check_rows([(words,) for words in self.printing], self.closed)

    async def closed(self, words):
        child = self.evserve(*words, streams=(0, 2))
        self.assertEqual((await child.ended, child.err), (0, b""), words)

    async def test_a_failure_that_cannot_be_printed_still_ends_the_process(self):
        jobs = (
            ["load", "--connect", "tcp:127.0.0.1:1", "--connections", "1", "--seconds", "0.1"],
            ["lab", "--list", "--models", "epoll_level"],
            ["--listen", "unix:/nowhere/x"],
        )
        redirections = (">/dev/full 2>&1", ">/dev/full 2>&-")
        await self.check_rows(
            [(job, where) for job in jobs for where in redirections], self.unprintable
        )

    async def unprintable(self, words, where):
        child = self.shell(f'exec "$@" {where}', words, "")
        self.assertEqual((await child.ended, child.out, child.err), (1, b"", b""), words)

    def shell(self, script, words, unbuffered):
        env = {"PYTHONUNBUFFERED": unbuffered}
        return self.run_command("/bin/sh", "-c", script, "sh", *EVSERVE, *words, env=env)


class InterruptTests(CommandCase):
    """Ctrl-C before the server runs."""

    async def test_it_ends_without_a_traceback(self):
        slow = (
            "import sys, time; print('slow', end='', file=sys.stderr, flush=True); time.sleep(600)"
        )
        for name, words in (
            ("twisted/plugins/slow_plugin.py", ["--port", "0"]),
            ("late_module.py", ["late", "--port", "0"]),
        ):
            self.write("twisted/plugins/late.py", PLUGIN)
            path = self.write(name, slow)
            child = self.evserve(*words)
            await child.until(lambda child=child: b"slow" in child.err)
            self.assertEqual(await child.stop("INT"), 130, child.err)
            self.assertEqual(child.err, b"slow")
            path.unlink()

    async def test_what_has_begun_is_stopped(self):
        self.write("twisted/plugins/late.py", PLUGIN)
        self.write("late_module.py", WAITING)
        child = self.evserve("late", "--listen", "unix:socket")
        await child.until(lambda: b"slow" in child.err)
        self.assertTrue((self.folder / "socket").is_socket())
        self.assertEqual(await child.stop("INT"), 0, child.err)
        self.assertEqual(child.err, b"slow")
        self.assertEqual(list(self.folder.glob("socket*")), [])
