"""io_uring: request an operation, continue, and be notified when it has been done.

Two rings are shared with the kernel. The program puts requests into one (accept, receive into this
buffer, send these bytes) and takes completions from the other. All other models are notified that
they can read; here the bytes are there. One call submits requests and waits for completions.

It costs a buffer for each connection that waits for bytes, and several calls for each request.

It breaks at the limit of open files, and where the kernel has no io_uring or forbids it, as
containers often do. liburing's wheel is compiled for processors with AVX-512.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

from _common import has_free_descriptor, listen, need_processor, unavailable, warn


try:
    import liburing as uring
except ImportError:
    unavailable("needs liburing: pip install 'evserve[lab]'")
need_processor("avx512", "liburing")  # others end with SIGILL

RING = uring.Ring()
ENTRIES = 4096  # requests that fit into it
SIZE = 8192  # bytes of buffer for each connection


def ask(prepare: Callable[..., None], fd: int, *memory: bytes | bytearray) -> None:
    """Request an operation; each descriptor has one at a time."""
    while (entry := uring.io_uring_get_sqe(RING)) is None:
        uring.io_uring_submit(RING)  # the ring is full
    prepare(entry, fd, *memory)
    entry.user_data = fd  # comes back with the completion


def completions() -> Iterator[tuple[int, int]]:
    """Submit requests, sleep until one is done; yield descriptors and results."""
    with contextlib.suppress(InterruptedError):  # Ctrl-Z and `fg`
        uring.io_uring_submit_and_wait(RING, 1)
    done, count = uring.Cqe(), 0
    for _ in uring.CqeIter(RING, done):
        count += 1
        try:
            yield done[0].user_data, done[0].res
        except OSError as error:
            yield done[0].user_data, -(error.errno or 1)  # as in C
    uring.io_uring_cq_advance(RING, count)


def proceed(fd: int, buffer: bytearray, unsent: bytes, count: int) -> bytes:
    """Send what was received, completely, then receive again; return what is being sent."""
    unsent = unsent[count:] if unsent else bytes(buffer[:count]).upper()
    prepare = uring.io_uring_prep_send if unsent else uring.io_uring_prep_recv
    ask(prepare, fd, unsent or buffer)
    return unsent


def main() -> None:
    """Make the next request after each completion."""
    try:
        uring.io_uring_queue_init(ENTRIES, RING)
    except OSError as error:
        unavailable(f"the kernel refuses io_uring: {error.strerror}")
    listener = listen()
    ask(uring.io_uring_prep_accept, listener.fileno())
    buffers: dict[int, bytearray] = {}  # filled by the kernel, for each connection
    unsent: dict[int, bytes] = {}  # being sent, for each connection
    while True:
        for fd, result in completions():
            if fd == listener.fileno():
                ask(uring.io_uring_prep_accept, fd)
                if result < 0:
                    warn(f"accept: {os.strerror(-result)}")
                elif has_free_descriptor(result):  # the result is a new descriptor
                    buffers[result], unsent[result] = bytearray(SIZE), b""
                    ask(uring.io_uring_prep_recv, result, buffers[result])
                else:
                    os.close(result)
            elif result <= 0:  # the client has sent its last byte, or the connection was reset
                del buffers[fd], unsent[fd]
                os.close(fd)
            else:
                unsent[fd] = proceed(fd, buffers[fd], unsent[fd], result)


if __name__ == "__main__":
    main()
