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
    """Skip the test if a process may not open that many files here."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SkipTest(f"needs {count} open files; `ulimit -Hn` is {hard}")


def on_default_reactor(test):
    """Have a test's servers run on the default reactor, whatever EVSERVE_TEST_REACTOR says."""
    test.patch(os, "environ", {**os.environ, "EVSERVE_TEST_REACTOR": ""})


def on_chosen_reactor(words):
    """Return a command whose `twistd` runs on the reactor that EVSERVE_TEST_REACTOR names.

    A command that names a reactor itself is unchanged, as is every command without the variable.
    """
    name, words = os.environ.get("EVSERVE_TEST_REACTOR"), [*map(str, words)]
    if not name or str(TWISTD) not in words or any("--reactor" in word for word in words):
        return words
    after = words.index(str(TWISTD)) + 1
    return [*words[:after], f"--reactor={name}", *words[after:]]


@define(eq=False)
class Child(ProcessProtocol):
    """A child process; `exited` fires with its exit status, None if a signal ended it.

    `ended` fires with the same, after all its output has been read.
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
            deferred.errback(AssertionError(f"ended too early:\n{self.err.decode()}"))
        self.ended.callback(reason.value.exitCode)

    def until(self, condition):
        """Fire with the result of `condition()` as soon as output makes that true."""
        deferred = Deferred()
        self._waiting.append((condition, deferred))
        self._look()
        return deferred

    def shows(self, text):
        """Fire when standard output contains `text`."""
        return self.until(lambda: text in self.out)

    def listening(self, kind="tcp"):
        """Fire with the address in its log: `127.0.0.1:4711`, `/run/echo`.

        By then its start is complete, and it handles signals.
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


async def address_of(child, name):
    """Return the address, such as `127.0.0.1:4711`, that a service of a child has logged."""
    line = re.compile(rf"{name}: listening on tcp (\S+)\n".encode())
    await child.until(lambda: b" serves " in child.err and line.search(child.err))
    return line.search(child.err)[1].decode()


def run_python(test, *words, folder=None, stdin=True):
    """Start Python in `folder`, or in a new one; it is killed at the end of `test`."""
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
    """Start `twistd -n evserve WORDS...`; `stdin=False` closes its descriptor 0."""
    return run_python(test, TWISTD, "-n", "evserve", *words, folder=folder, stdin=stdin)


def run_example(test, name, *words):
    """Start a program of examples/."""
    return run_python(test, EXAMPLES / name, *words)
