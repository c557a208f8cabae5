"""Processes in memory: a launcher whose workers do as the test says."""

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.python.failure import Failure

from evserve.host.workers.assignment import REPORTS
from evserve.host.workers.messages import Frames, Kind, Message, encode


class MemoryProcess:
    """A worker's process transport; `orders` are the kinds of the parent's messages."""

    def __init__(self, child, pid):
        self.child, self.pid = child, pid
        self.orders = []
        self._frames = Frames()
        self._alive = True

    def report(self, message):
        self.child.childDataReceived(REPORTS, encode(message))

    def serve(self):
        self.report(Message(Kind.READY))

    def end(self, status=0, signal=None):
        self._alive = False
        done = status == 0 and signal is None
        reason = ProcessDone(0) if done else ProcessTerminated(None if signal else status, signal)
        self.child.processEnded(Failure(reason))

    def writeToChild(self, descriptor, data):
        if not self._alive:
            raise KeyError(descriptor)
        self.orders += [message.kind for message in self._frames.feed(data)]

    def signalProcess(self, name):
        if not self._alive:
            raise ProcessExitedAlready
        self.end(None, 9)


class MemoryLauncher:
    """Starts processes in memory; `broken` is the error that the next start raises."""

    def __init__(self):
        self.processes = []
        self.broken = None

    def start(self, child, sockets):
        if self.broken is not None:
            raise self.broken
        process = MemoryProcess(child, 100 + len(self.processes))
        self.processes.append(process)
        child.transport = process
        child.connectionMade()
