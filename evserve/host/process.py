"""The process: one-line errors, its end and exit status, standard streams, file limit, paths."""

import atexit
import concurrent.futures.thread  # noqa: F401 - has registered its hook, see before_threads_end
import errno
import os
import resource
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.python.usage import UsageError

from evserve.plugin import one_line


# Errors that a person can correct; anything else is a defect and gets a traceback as well.
# OverflowError is what a socket raises for a port above 65535.
USER_ERRORS = (OSError, CannotListenError, UsageError, ValueError, OverflowError)

MAX_DESCRIPTORS = 1_048_576  # the kernel allocates a table: more would waste memory


def explain(error: BaseException) -> str:
    """Return an error as one line, without its type if a person can correct it."""
    if isinstance(error, CannotListenError):
        cause = getattr(error.socketError, "strerror", None) or error.socketError
        if isinstance(error.port, bytes):  # the path of a UNIX socket
            return f"cannot listen on {os.fsdecode(error.port)}: {cause}"
        host = error.interface or "*"
        return f"cannot listen on {f'[{host}]' if ':' in host else host}:{error.port}: {cause}"
    if isinstance(error, OSError) and error.strerror:
        # Of two names, the second is the one being created: the lock beside a UNIX socket.
        name = error.filename2 or error.filename
        return f"{error.strerror}: {os.fsdecode(name)}" if name else error.strerror
    text = " ".join(str(error).split())
    return text if text and isinstance(error, USER_ERRORS) else one_line(error)


@contextmanager
def exit_without_traceback() -> Iterator[None]:
    """Turn Ctrl-C and failed writes (`| head`, a full disk) into SystemExit.

    Flushes standard output: the interpreter's own flush at exit would report a failure in two
    lines and exit with status 120.
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still buffered
        raise SystemExit(
            1 if error.errno == errno.EPIPE else f"evserve: {explain(error)}"
        ) from None


def exit_with(status: int) -> None:
    """Make the process exit with `status`; `twistd` itself always exits with 0.

    Only a hook at interpreter exit works under both `twistd` and `twist` (twisted#11335).
    """

    def hook() -> None:
        atexit.unregister(hook)
        end(status)

    atexit.register(hook)


def end(status: int) -> None:
    """End the process with `status` after its exit hooks, such as coverage's."""
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - public in all but name since Python 2
        _flush()
    finally:
        os._exit(status)


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with suppress(OSError, ValueError):  # full, broken pipe, closed
                stream.flush()


def before_threads_end(hook: Callable[[], object]) -> None:
    """Call `hook` at interpreter exit, before the interpreter waits for threads; not in a fork."""
    pid = os.getpid()

    def call() -> None:
        if os.getpid() == pid:
            hook()

    # Those of `atexit` come after the threads. The last to register is the first to be called.
    threading._register_atexit(call)  # type: ignore[attr-defined]  # noqa: SLF001 - as the pools of concurrent.futures do


def limit_exit(seconds: float | None, give_up: Callable[[list[str]], None]) -> None:
    """End the process with status 1 if threads or exit hooks have not let it end by then.

    The processes that `multiprocessing` has started are killed, because forks keep ports open.

    seconds: from now; None for no limit but SIGINT and SIGTERM, from which on it has a second.
    give_up: called before the end with the names of the threads and processes that are left.
    """

    def end_now(*_: object) -> None:
        main = threading.main_thread()
        left = [each for each in threading.enumerate() if not (each is main or each.daemon)]
        multiprocessing: Any = sys.modules.get("multiprocessing")
        forks = multiprocessing.active_children() if multiprocessing is not None else []
        try:
            for each in forks:
                each.kill()
            give_up([each.name for each in (*left, *forks)])
            _flush()
        finally:
            os._exit(1)

    def hurry(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 1)

    signal.signal(signal.SIGALRM, end_now)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, hurry)
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def open_standard_descriptors() -> None:
    """Open /dev/null on each of descriptors 0, 1 and 2 that is closed.

    Otherwise the next socket gets that number, and a print or read reaches a client. `sys.stderr`
    is never None then, which no service expects; `sys.stdout` is, because results must not get
    lost unnoticed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # POSIX returns the lowest free number: this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; return the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft if soft != resource.RLIM_INFINITY else MAX_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def current_folder() -> Path | None:
    """Return the current folder; None if it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return None


def check_paths(twistd: Mapping[str, Any]) -> None:
    """Raise UsageError if `twistd` cannot use its --logfile, --pidfile, --rundir or --chroot.

    It notices only when it logs or daemonizes, and then prints a traceback.
    """
    for option, name, code in _path_errors(twistd):
        if code:
            raise UsageError(f"twistd's --{option} {name}: {os.strerror(code)}")


def _path_errors(twistd: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield each path option with its value and an errno, 0 if it can be used."""
    logfile: str | None = twistd.get("logfile")
    if logfile == "-" or twistd.get("syslog") or twistd.get("logger"):
        logfile = None
    elif not logfile and not twistd.get("nodaemon", True):
        logfile = "twistd.log"
    if logfile:
        yield "logfile", logfile, _file_error(Path(logfile))
    if chroot := twistd.get("chroot"):
        yield "chroot", chroot, _folder_error(Path(chroot))
        return  # the other paths are inside it, where we cannot look yet
    rundir, pidfile = twistd.get("rundir", "."), twistd.get("pidfile")
    if rundir != ".":
        yield "rundir", rundir, _folder_error(Path(rundir))
    if pidfile:  # relative to the current folder, not to rundir
        yield "pidfile", pidfile, _file_error(Path(pidfile))


def _folder_error(path: Path) -> int:
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        return error.errno or 0
    if not is_folder:
        return errno.ENOTDIR
    return 0 if os.access(path, os.X_OK) else errno.EACCES


def _file_error(path: Path) -> int:
    code = _folder_error(path.parent)
    if code:
        return code
    if path.is_dir():
        return errno.EISDIR
    return 0 if os.access(path if path.exists() else path.parent, os.W_OK) else errno.EACCES
