"""beanstalkd in a child process."""

import re
import shutil
import socket
from contextlib import suppress
from unittest import SkipTest

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol

from tests.ports import free_port


BEANSTALKD = shutil.which("beanstalkd")


class Server(ProcessProtocol):
    """beanstalkd; `port` fires once it listens there."""

    pattern = rb"bind \d+ [\d.]+:(\d+)"

    def __init__(self):
        self.output = b""
        self.port = Deferred()
        self.reason = None
        self.waiting = []

    def childDataReceived(self, fd, data):
        self.output += data
        found = re.search(self.pattern, self.output)
        if found and not self.port.called:
            port = int(found[1])
            wait_for_listener(port)  # it logs where it has bound, and listens then
            self.port.callback(port)

    def processEnded(self, reason):
        if not self.port.called:
            self.port.errback(RuntimeError(self.output.decode()))
        self.reason = reason.value
        for each in self.waiting:
            each.callback(reason.value)

    def stop(self, signal="KILL"):
        """Send `signal`; fire when the process has ended, for whatever reason."""
        if self.reason is not None:
            return succeed(self.reason)
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(signal)
        self.waiting.append(Deferred())
        return self.waiting[-1]


def wait_for_listener(port):
    """Block until a server that has bound `port` listens."""
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return


def start_beanstalkd(test, reactor, port=None):
    """Start beanstalkd for `test`, on a free port if none is given."""
    if BEANSTALKD is None:
        raise SkipTest("beanstalkd is not installed")
    server = Server()
    command = [BEANSTALKD, "-V", "-l", "127.0.0.1", "-p", str(port or free_port())]
    reactor.spawnProcess(server, command[0], command, env={})
    test.addCleanup(server.stop)
    return server
