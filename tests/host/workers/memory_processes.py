"""Worker processes in memory, which do what the test tells them."""

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.python.failure import Failure

from evserve.host.workers.messages import (
    REPORT_FD,
    Message,
    MessageDecoder,
    MessageKind,
    encode,
)


class MemoryProcess:
    """A worker's process transport; `received` are the kinds of the supervisor's messages."""

    def __init__(self, worker, pid):
        self.worker, self.pid = worker, pid
        self.received = []
        self._decoder = MessageDecoder()
        self._alive = True

    def report(self, message):
        self.worker.childDataReceived(REPORT_FD, encode(message))

    def serve(self):
        self.report(Message(MessageKind.READY))

    def leave(self):
        self.report(Message(MessageKind.LEAVING))

    def end(self, status=0, signal=None):
        self._alive = False
        done = status == 0 and signal is None
        reason = ProcessDone(0) if done else ProcessTerminated(None if signal else status, signal)
        self.worker.processEnded(Failure(reason))

    def writeToChild(self, descriptor, data):
        if not self._alive:
            raise KeyError(descriptor)
        self.received += [message.kind for message in self._decoder.feed(data)]

    def signalProcess(self, name):
        if not self._alive:
            raise ProcessExitedAlready
        self.end(None, 9)


class MemoryLauncher:
    """Starts processes in memory; `broken` is the error that the next start raises."""

    def __init__(self):
        self.processes = []
        self.broken = None

    def start(self, worker, sockets):
        if self.broken is not None:
            raise self.broken
        process = MemoryProcess(worker, 100 + len(self.processes))
        self.processes.append(process)
        worker.transport = process
        worker.connectionMade()
