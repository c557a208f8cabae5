"""evserve in child processes, as a user starts it."""

import contextlib
import os
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import SkipTest


LISTENING = re.compile(rb"^.*?(\S+): listening on (\w+) (\S+)$", re.MULTILINE)
EXAMPLES = Path(__file__).parents[2] / "examples"
TWISTD = Path(sys.executable).with_name("twistd")


def need_open_files(count):
    """Skip the test if a process may not have that many open files here."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SkipTest(f"{count} open files are needed, `ulimit -Hn` is {hard}")


def on_chosen_reactor(words):
    """Return a command whose `twistd` runs on the reactor that EVSERVE_TEST_REACTOR names.

    Without that, or if the command names one itself, it is what it was.
    """
    name, words = os.environ.get("EVSERVE_TEST_REACTOR"), [*map(str, words)]
    if not name or str(TWISTD) not in words or any("--reactor" in word for word in words):
        return words
    after = words.index(str(TWISTD)) + 1
    return [*words[:after], f"--reactor={name}", *words[after:]]


@define(eq=False)
class Child(ProcessProtocol):
    """A process; `ended` fires with its exit status, None if a signal ended it.

    That is when all that it has written was read; `exited` fires before.
    """

    out: bytes = b""
    err: bytes = b""
    exited: Deferred = field(factory=Deferred)
    ended: Deferred = field(factory=Deferred)
    _waiting: list = field(factory=list)

    def outReceived(self, data):
        self.out += data
        self._look()

    def errReceived(self, data):
        self.err += data
        self._look()

    def processExited(self, reason):
        self.exited.callback(reason.value.exitCode)

    def processEnded(self, reason):
        waiting, self._waiting = self._waiting, []
        for _, deferred in waiting:
            deferred.errback(AssertionError(f"it ended too early:\n{self.err.decode()}"))
        self.ended.callback(reason.value.exitCode)

    def until(self, condition):
        """Fire with what `condition()` returns as soon as output makes that true."""
        deferred = Deferred()
        self._waiting.append((condition, deferred))
        self._look()
        return deferred

    def shows(self, text):
        """Fire when `text` is on standard output."""
        return self.until(lambda: text in self.out)

    def listening(self, kind="tcp"):
        """Fire with the address that it says it listens on: `127.0.0.1:4711`, `/run/echo`.

        It is then past its start, and takes a signal as a server should.
        """
        return self.until(lambda: b" serves " in self.err and self._addresses().get(kind.encode()))

    def stop(self, name="TERM"):
        """Send a signal; fire with the exit status."""
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)
        return self.ended

    def _addresses(self):
        lines = self.err[: self.err.rfind(b"\n") + 1]
        return {kind: address.decode() for _, kind, address in LISTENING.findall(lines)}

    def _look(self):
        for entry in list(self._waiting):
            condition, deferred = entry
            found = condition()
            if found:
                self._waiting.remove(entry)
                deferred.callback(found)


def run_python(test, *words, folder=None, stdin=True):
    """Start Python in `folder`, or in one of its own; it is killed at the end of `test`."""
    from twisted.internet import reactor

    child = Child()
    if folder is None:
        folder = tempfile.mkdtemp()
        test.addCleanup(shutil.rmtree, folder)
    test.addCleanup(lambda: None if child.ended.called else child.stop("KILL"))
    words = on_chosen_reactor([sys.executable, *words])
    pipes = {0: "w", 1: "r", 2: "r"} if stdin else {1: "r", 2: "r"}
    reactor.spawnProcess(child, sys.executable, words, os.environ, str(folder), childFDs=pipes)
    return child


def spawn(test, *words, folder=None, stdin=True):
    """Start `twistd -n evserve WORDS...`; without `stdin` its descriptor 0 is closed."""
    return run_python(test, TWISTD, "-n", "evserve", *words, folder=folder, stdin=stdin)


def run_example(test, name, *words):
    """Start a program of examples/."""
    return run_python(test, EXAMPLES / name, *words)
