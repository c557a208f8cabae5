"""Fork per connection: the parent only accepts, a child process serves each client.

Each child blocks in `recv` and `sendall` as the simplest server does, but only its own client
waits for it. Nothing is shared: a child that crashes takes one conversation with it, and the
children run on all cores.

It costs a process for each client: page tables, a stack, a kernel structure, and a copy of every
page that is written to; in Python reference counts are written all the time. Forking takes longer
the more memory the parent has.

It breaks where the system allows no more processes (RLIMIT_NPROC, the `pids` limit of a control
group) or has no more memory: `fork` fails, and the client is turned away.
"""

import contextlib
import ctypes
import os
import signal
import socket

from _common import complain, listen


PR_SET_PDEATHSIG = 1  # prctl(2): which signal the kernel sends me when my parent ends
LIBC = ctypes.CDLL(None)


def serve(connection: socket.socket) -> None:
    """Answer in capitals until the client has sent its last byte."""
    with contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data.upper())


def main() -> None:
    """Accept, fork, and leave the rest to the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps: no child becomes a zombie
    listener = listen()
    parent = os.getpid()
    while True:
        connection, _ = listener.accept()
        with connection:  # the parent closes its copy at once
            try:
                child = os.fork() == 0
            except OSError as error:
                complain(f"fork: {error.strerror}")
                continue
            if child:
                LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
                listener.close()
                if os.getppid() == parent:
                    serve(connection)
                os._exit(0)


if __name__ == "__main__":
    main()
