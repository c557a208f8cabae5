"""io_uring: ask for the work to be done, go on, and be told when it is done.

Two rings are shared with the kernel. The program puts requests into one (accept, receive into
this buffer, send these bytes) and takes completions from the other. All others are told that they
may read; here the bytes have been read when the program hears of them. One system call hands in
any number of requests and waits for completions.

It costs a buffer for each connection that waits for bytes, because the kernel must know where to
put them. In Python, making a request costs more than the system call that it saves.

It breaks at the limit of open files, and where the kernel has no io_uring or forbids it, as
containers often do.
"""

import functools
import os
import resource
import signal
import socket
import sys


try:
    import liburing as uring
except ImportError:
    print("io_uring_completion: needs liburing: pip install 'evserve[lab]'", file=sys.stderr)
    sys.exit(3)

LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files that we may have
ACCEPT, RECEIVE, SEND = range(3)
ENTRIES = 4096  # requests that fit into the ring
SIZE = 8192  # bytes of buffer for each connection


def listen() -> socket.socket:
    """Listen on the port that the command line names, 9000 if it names none."""
    try:
        port = int(sys.argv[1]) if sys.argv[1:] else 9000
        listener = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"io_uring_completion: {error}")
    print(f"io_uring_completion: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    return listener


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"io_uring_completion: {reason}", file=sys.stderr)


class Server:
    """A ring, and for each connection the memory that the kernel reads from or writes to."""

    def __init__(self) -> None:
        self.ring = uring.Ring()
        try:
            uring.io_uring_queue_init(ENTRIES, self.ring)
        except OSError as error:
            print(
                f"io_uring_completion: the kernel refuses io_uring: {error.strerror}",
                file=sys.stderr,
            )
            sys.exit(3)
        self.buffers: dict[int, bytearray] = {}
        self.unsent: dict[int, bytes] = {}

    def request(self, operation: int, fd: int) -> None:
        """Ask the kernel for something; one request at a time is under way for each descriptor."""
        while (entry := uring.io_uring_get_sqe(self.ring)) is None:
            uring.io_uring_submit(self.ring)  # the ring is full: hand them in
        if operation == ACCEPT:
            uring.io_uring_prep_accept(entry, fd)
        elif operation == RECEIVE:
            uring.io_uring_prep_recv(entry, fd, self.buffers[fd])
        else:
            uring.io_uring_prep_send(entry, fd, self.unsent[fd])
        entry.user_data = fd * 4 + operation  # comes back with the completion

    def run(self, listener: socket.socket) -> None:
        """Hand in requests, sleep until something is done, see what follows from it."""
        self.request(ACCEPT, listener.fileno())
        done = uring.Cqe()
        while True:
            uring.io_uring_submit_and_wait(self.ring, 1)
            count = 0
            for _ in uring.CqeIter(self.ring, done):
                count += 1
                fd, operation = divmod(done[0].user_data, 4)
                try:
                    result = done[0].res
                except OSError as error:
                    result = -(error.errno or 1)  # as it is in C
                self.completed(operation, fd, result)
            uring.io_uring_cq_advance(self.ring, count)

    def completed(self, operation: int, fd: int, result: int) -> None:
        """Go on: `result` is a new descriptor, or how many bytes there were; below 0 an error."""
        if operation == ACCEPT:
            self.accepted(result)
            self.request(ACCEPT, fd)
        elif operation == RECEIVE and result > 0:
            self.unsent[fd] = bytes(self.buffers[fd][:result]).upper()
            self.request(SEND, fd)
        elif operation == SEND and result > 0:
            self.unsent[fd] = self.unsent[fd][result:]
            self.request(SEND if self.unsent[fd] else RECEIVE, fd)
        else:  # the client has sent its last byte, or vanished
            del self.buffers[fd]
            self.unsent.pop(fd, None)
            os.close(fd)

    def accepted(self, fd: int) -> None:
        """Begin to receive; the last descriptor stays free, or accepting would fail."""
        if fd < 0:
            complain(f"accept: {os.strerror(-fd)}")
        elif fd == LIMIT - 1:
            complain(f"out of descriptors: `ulimit -Hn` allows {LIMIT}")
            os.close(fd)
        else:
            self.buffers[fd] = bytearray(SIZE)
            self.request(RECEIVE, fd)


def main() -> None:
    """Set up the ring first: whoever cannot have one need not listen."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    server = Server()
    server.run(listen())


if __name__ == "__main__":
    main()
