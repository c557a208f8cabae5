"""Signal-driven: the kernel sends a signal when something happens to a connection.

Each socket is told whom to signal (F_SETOWN), how (F_SETSIG), and that at all (O_ASYNC). Real-time
signals are queued, one for each event, and each says which descriptor it is about. It comes once,
as an edge of epoll does, so a connection is served until EAGAIN. The signals are blocked and taken
with sigwaitinfo: a handler would interrupt the program anywhere, and Python's is not told the
descriptor, nor is `signal.sigwaitinfo`.

It costs a signal and a system call for each packet that arrives, even for a connection that is
not being listened to.

It breaks when more signals wait than RLIMIT_SIGPENDING allows: the kernel drops them and sends
one plain SIGIO instead, and every connection has to be looked at. A client that always has more
to say keeps the others waiting, since it is served until EAGAIN.
"""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import sys

from _common import complain, listen, newcomers


PENDING = resource.getrlimit(resource.RLIMIT_SIGPENDING)[0]  # signals that may wait
QUEUED = signal.SIGRTMIN  # real-time signals are queued; SIGIO is merged with one that waits
SIGINFO = struct.Struct("i20xi100x")  # siginfo_t: the signal's number; for I/O, the descriptor
LIBC = ctypes.CDLL(None)


def wait() -> tuple[int, int]:
    """Sleep until a signal comes; return its number and the descriptor that it is about."""
    mask = sum(1 << (number - 1) for number in (QUEUED, signal.SIGIO))
    info = ctypes.create_string_buffer(SIGINFO.size)
    LIBC.sigwaitinfo(mask.to_bytes(128, sys.byteorder), info)
    number, fd = SIGINFO.unpack(info.raw)
    return number, fd


def want_signals(descriptor: socket.socket) -> None:
    """Have a signal sent to this process for whatever happens to a socket from now on."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, QUEUED)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)


def serve(connection: socket.socket, unsent: bytes) -> bytes | None:
    """Go on until EAGAIN; return what is still to be sent, None at the end."""
    try:
        # Nothing is read before the last answer is gone: a client that does not read its
        # answers is not listened to, and costs one piece of memory.
        while unsent or (unsent := connection.recv(65536).upper()):
            unsent = unsent[connection.send(unsent) :]
    except BlockingIOError:
        return unsent
    except OSError:  # the client has vanished
        return None
    return None


class Server:
    """Connections, and what is still to be sent to each."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.connections: dict[int, socket.socket] = {}
        self.unsent: dict[int, bytes] = {}

    def accept(self) -> None:
        """Take everybody who waits."""
        for connection in newcomers(self.listener):
            want_signals(connection)
            self.connections[connection.fileno()] = connection
            self.unsent[connection.fileno()] = b""
            self.look(connection.fileno())  # for what came before signals were wanted

    def look(self, fd: int) -> None:
        """Do all that can be done for a descriptor; the signal may be an old one."""
        if fd == self.listener.fileno():
            self.accept()
        elif fd in self.connections:
            rest = serve(self.connections[fd], self.unsent[fd])
            if rest is None:
                self.connections.pop(fd).close()
            else:
                self.unsent[fd] = rest


def main() -> None:
    """Block the signals before any can come, and take them one by one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [QUEUED, signal.SIGIO])
    listener = listen()
    listener.setblocking(False)
    want_signals(listener)
    server = Server(listener)
    server.accept()  # who came before signals were wanted
    while True:
        number, fd = wait()
        if number == QUEUED:
            server.look(fd)
        elif number == signal.SIGIO:
            complain(f"more signals than RLIMIT_SIGPENDING = {PENDING}: looking at everybody")
            for each in [listener.fileno(), *server.connections]:
                server.look(each)


if __name__ == "__main__":
    main()
