"""Signal-driven: the kernel sends a signal when something happens to a connection.

Each socket is told whom to signal (F_SETOWN), how (F_SETSIG), and that at all (O_ASYNC). Real-time
signals are queued, one for each event, and each says which descriptor it is about. It comes once,
as an edge of epoll does, so a connection is served until EAGAIN. The signals are blocked and taken
with sigwaitinfo: a handler would interrupt the program anywhere, and Python's is not told the
descriptor. Python's sigwaitinfo has no name for it (`si_fd`) either, but where pointers have 64
bits it stands in the place of another, `si_status`.

It costs a signal and a system call for each packet that arrives, even for a connection that is
not being listened to.

It breaks when more signals wait than RLIMIT_SIGPENDING allows: the kernel drops them and sends
one plain SIGIO instead, and every connection has to be looked at. A client that always has more
to say keeps the others waiting, since it is served until EAGAIN.
"""

import fcntl
import os
import resource
import signal
import socket
import sys

from _common import complain, listen, newcomers, unavailable


PENDING = resource.getrlimit(resource.RLIMIT_SIGPENDING)[0]  # signals that may wait
QUEUED = signal.SIGRTMIN  # real-time signals are queued; SIGIO is merged with one that waits


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


def main() -> None:
    """Block the signals before any can come, and take them one by one."""
    if sys.maxsize < 2**32:
        unavailable("needs a 64-bit Python: elsewhere si_fd cannot be read")
    signal.pthread_sigmask(signal.SIG_BLOCK, [QUEUED, signal.SIGIO])
    listener = listen()
    listener.setblocking(False)
    want_signals(listener)
    clients: dict[int, tuple[socket.socket, bytes]] = {}  # each with what is still to be sent
    to_see = [listener.fileno()]  # whoever came before signals were wanted
    while True:
        for fd in to_see:
            if fd == listener.fileno():
                for connection in newcomers(listener):
                    want_signals(connection)
                    clients[connection.fileno()] = connection, b""
                    to_see.append(connection.fileno())  # what it sent before signals were wanted
            elif fd in clients:  # the signal may be an old one
                connection, unsent = clients.pop(fd)
                rest = serve(connection, unsent)
                if rest is None:
                    connection.close()
                else:
                    clients[fd] = connection, rest
        info = signal.sigwaitinfo([QUEUED, signal.SIGIO])
        to_see = [info.si_status]  # si_fd, for I/O
        if info.si_signo == signal.SIGIO:
            complain(f"more signals than RLIMIT_SIGPENDING = {PENDING}: looking at everybody")
            to_see = [listener.fileno(), *clients]


if __name__ == "__main__":
    main()
