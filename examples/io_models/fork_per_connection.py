"""Fork per connection: the parent only accepts, and a child process serves each client.

Each child blocks in `recv` and `sendall` as the simplest server does, but only its own client
waits for it. Nothing is shared: a child that crashes ends one conversation only, and the children
run on all cores.

It costs a process for each client: page tables, a stack, a kernel structure, and a copy of every
page that is written to, which in Python happens all the time because of reference counts. A fork
takes longer the more memory the parent has.

It breaks when the system allows no more processes (RLIMIT_NPROC, the `pids` limit of a control
group) or has no more memory: `fork` fails, and the client's connection is closed.
"""

import contextlib
import ctypes
import os
import signal
import socket

from _common import listen, warn


PR_SET_PDEATHSIG = 1  # prctl(2): a signal for this process when its parent ends
LIBC = ctypes.CDLL(None)


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data.upper())


def main() -> None:
    """Accept, and fork a child that serves the client."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps children
    listener = listen()
    parent = os.getpid()
    while True:
        connection, _ = listener.accept()
        with connection:  # the parent closes its copy at once
            try:
                child = os.fork() == 0
            except OSError as error:
                warn(f"fork: {error.strerror}")
                continue
            if child:
                LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
                listener.close()
                if os.getppid() == parent:
                    serve(connection)
                os._exit(0)


if __name__ == "__main__":
    main()
