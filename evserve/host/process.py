"""The process: its standard streams, its exit status, its signals and its file limit."""

import atexit
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from evserve.host.errors import explain


# More descriptors than this cost the kernel memory for a table nobody fills.
MOST_DESCRIPTORS = 1_048_576


def hold_standard_descriptors() -> None:
    """Open /dev/null wherever descriptor 0, 1 or 2 is closed.

    Otherwise the next socket takes that number, and a stray print or read reaches a client.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # POSIX gives the lowest free number: this one


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Let Ctrl-C, `| head` and a full disk end the command within by SystemExit, no traceback.

    What was printed is written out here: left to the exit of the interpreter, a failure would be
    two lines of Python's own and status 120.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in the buffer
        nobody_reads = error.errno == errno.EPIPE
        raise SystemExit(1 if nobody_reads else f"evserve: {explain(error)}") from None


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; return the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft if soft != resource.RLIM_INFINITY else MOST_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def exit_with(status: int) -> None:
    """Make the process end with `status`, although `twistd` ends with 0 whatever happened.

    A hook at interpreter exit is the one place that works under `twistd` and `twist` alike
    (twisted#11335). Other exit hooks, such as coverage's, run before the process ends.
    """

    def end() -> None:
        atexit.unregister(end)
        try:
            atexit._run_exitfuncs()  # noqa: SLF001 - public in all but name since Python 2
            for stream in (sys.__stdout__, sys.__stderr__):
                if stream is not None:
                    with suppress(OSError, ValueError):  # it is full, nobody reads, it is closed
                        stream.flush()
        finally:
            os._exit(status)

    atexit.register(end)


def on_stop_signals(reactor: Any, stop: Callable[[str], None]) -> None:
    """Call `stop` with the signal's name, in the reactor, on SIGINT and SIGTERM.

    To be called once the reactor runs, because `reactor.run` sets handlers of its own, which would
    cut open connections at once and end the process by the signal instead of with status 0.
    """

    def handler(number: int, frame: object) -> None:
        reactor.callFromThread(stop, signal.Signals(number).name)

    _handle_stop_signals(handler)
    # While it ends, the interpreter would restore the defaults: a second signal that comes then
    # would spoil the status of a process that has stopped in good order.
    atexit.register(_handle_stop_signals, signal.SIG_IGN)


def _handle_stop_signals(handler: Any) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handler)
