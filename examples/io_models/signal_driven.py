"""Signal-driven: the kernel sends a signal when something happens to a connection.

Three calls enable that for a socket: which process gets the signal (F_SETOWN), which signal
(F_SETSIG), and that it is sent (O_ASYNC). Real-time signals are queued, one for each event, and
each contains the descriptor. It comes once, like an edge of epoll, so a connection is served until
EAGAIN. The signals are blocked and taken with sigwaitinfo: a handler would interrupt the program
anywhere, and Python's does not get the descriptor. Python's sigwaitinfo has no name for it
(`si_fd`) either, but with 64-bit pointers it is in the place of another field, `si_status`.

It costs a signal and a system call for each packet that arrives, even for a connection that is not
being read.

It breaks when more signals are queued than RLIMIT_SIGPENDING allows: the kernel drops them and
sends one plain SIGIO instead, and every connection has to be checked. A client that always sends
more keeps the others waiting, since it is served until EAGAIN.
"""

import fcntl
import os
import resource
import signal
import socket
import sys

from _common import accept_waiting, listen, unavailable, warn


PENDING = resource.getrlimit(resource.RLIMIT_SIGPENDING)[0]  # signals that may be queued
QUEUED = signal.SIGRTMIN  # real-time signals are queued, several SIGIO are merged


def want_signals(descriptor: socket.socket) -> None:
    """Request a signal to this process for every event of a socket from now on."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, QUEUED)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)


def serve(connection: socket.socket, unsent: bytes) -> bytes | None:
    """Continue until EAGAIN; return the bytes that are still unsent, None at the end."""
    try:
        # Nothing is read before the last answer has been sent: a client that does not read
        # its answers is not read from, and costs one piece of memory.
        while unsent or (unsent := connection.recv(65536).upper()):
            unsent = unsent[connection.send(unsent) :]
    except BlockingIOError:
        return unsent
    except OSError:  # the connection was reset
        return None
    return None


def main() -> None:
    """Block the signals before the first can come, and take them one by one."""
    if sys.maxsize < 2**32:
        unavailable("needs a 64-bit Python to read si_fd")
    signal.pthread_sigmask(signal.SIG_BLOCK, [QUEUED, signal.SIGIO])
    listener = listen()
    listener.setblocking(False)
    want_signals(listener)
    clients: dict[int, tuple[socket.socket, bytes]] = {}  # each with its unsent bytes
    pending = [listener.fileno()]  # clients that came before signals were requested
    while True:
        for fd in pending:
            if fd == listener.fileno():
                for connection in accept_waiting(listener):
                    want_signals(connection)
                    clients[connection.fileno()] = connection, b""
                    pending.append(connection.fileno())  # bytes that came before
            elif fd in clients:  # not if the signal is an old one
                connection, unsent = clients.pop(fd)
                rest = serve(connection, unsent)
                if rest is None:
                    connection.close()
                else:
                    clients[fd] = connection, rest
        info = signal.sigwaitinfo([QUEUED, signal.SIGIO])
        pending = [info.si_status]  # si_fd, for I/O
        if info.si_signo == signal.SIGIO:
            warn(f"more signals than RLIMIT_SIGPENDING = {PENDING}: checking all connections")
            pending = [listener.fileno(), *clients]


if __name__ == "__main__":
    main()
