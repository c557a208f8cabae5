"""The process: its standard streams, its exit status, its signals and its file limit."""

import atexit
import errno
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.python.usage import UsageError

from evserve.plugin import one_line


# OverflowError is what a socket says to a port above 65535.
MENDABLE = (OSError, CannotListenError, UsageError, ValueError, OverflowError)


def explain(error: BaseException) -> str:
    """Say in one line what went wrong, without the name of the exception where a person erred."""
    if isinstance(error, CannotListenError):
        return f"cannot listen on {_where(error)}: {_reason(error.socketError)}"
    if isinstance(error, OSError) and error.strerror:
        # Of two names, the second is what was to be made: the lock beside a UNIX socket.
        name = error.filename2 or error.filename
        return f"{error.strerror}: {os.fsdecode(name)}" if name else error.strerror
    text = " ".join(str(error).split())
    return text if text and isinstance(error, MENDABLE) else one_line(error)


def _where(error: CannotListenError) -> str:
    if isinstance(error.port, bytes):  # the path of a UNIX socket
        return os.fsdecode(error.port)
    host = error.interface or "*"
    return f"[{host}]:{error.port}" if ":" in host else f"{host}:{error.port}"


def _reason(error: object) -> str:
    return getattr(error, "strerror", None) or str(error)


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


def check_places(twistd: Mapping[str, Any]) -> None:
    """Raise UsageError, in one line, if a folder or a file among `twistd`'s options is no use."""
    for option, name, trouble in _troubles(twistd):
        if trouble:
            raise UsageError(f"twistd's --{option} {name}: {os.strerror(trouble)}")


def _troubles(twistd: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield an option, its value and what is wrong with that: an errno, or 0."""
    logfile, chroot = _logfile(twistd), twistd.get("chroot")
    if logfile:
        yield "logfile", logfile, _file_trouble(Path(logfile))
    if chroot:
        yield "chroot", chroot, _folder_trouble(Path(chroot))
        return  # the others are in there, where we cannot look yet
    rundir, pidfile = twistd.get("rundir", "."), twistd.get("pidfile")
    if rundir != ".":
        yield "rundir", rundir, _folder_trouble(Path(rundir))
    if pidfile:  # below the current folder, whatever rundir is
        yield "pidfile", pidfile, _file_trouble(Path(pidfile))


def _logfile(twistd: Mapping[str, Any]) -> str | None:
    """Return the log file that `twistd` is going to open, if any."""
    name: str | None = twistd.get("logfile")
    if name == "-" or twistd.get("syslog") or twistd.get("logger"):
        return None
    return name or (None if twistd.get("nodaemon", True) else "twistd.log")


def _folder_trouble(path: Path) -> int:
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        return error.errno or 0
    if not is_folder:
        return errno.ENOTDIR
    return 0 if os.access(path, os.X_OK) else errno.EACCES


def _file_trouble(path: Path) -> int:
    trouble = _folder_trouble(path.parent)
    if trouble:
        return trouble
    if path.is_dir():
        return errno.EISDIR
    return 0 if os.access(path if path.exists() else path.parent, os.W_OK) else errno.EACCES
