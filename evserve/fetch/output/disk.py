"""What the outputs need of the disk: opening and locking files, whole writes, group sync."""

import ctypes
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool


_LOCKED = (errno.EWOULDBLOCK, errno.EACCES)

SyncTarget = str | int  # the path of a file or a folder, or a descriptor
_MAX_FSYNCS = 8  # from there on, one syncfs is cheaper than an fsync for each target
_libc = ctypes.CDLL(None, use_errno=True)


def open_stream(path: Path) -> BinaryIO:
    """Open a file, a pipe or a device, unbuffered, for writing. Raises OSError.

    A file is locked and not truncated; a pipe is waited for until it has a reader, which
    standard error says.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO or not stat.S_ISFIFO(path.stat().st_mode):
            raise
        descriptor = _open_when_read(path)
    out = os.fdopen(descriptor, "wb", buffering=0)
    os.set_blocking(descriptor, True)
    if is_regular_file(descriptor):
        _lock_or_close(out, path)
    return out


def open_file(path: Path) -> BinaryIO:
    """Open or create a file, unbuffered, for reading and writing, and lock it. Raises OSError."""
    # O_NONBLOCK, so that a pipe is refused and not waited for.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    if not is_regular_file(descriptor):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it must be a file", str(path))
    file = os.fdopen(descriptor, "r+b", buffering=0)
    _lock_or_close(file, path)
    return file


def lock(descriptor: int) -> bool:
    """Lock a file or folder until it is closed; False if another process has the lock.

    True on file systems without locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _LOCKED
    return True


def lock_folder(folder: Path) -> bool:
    """Lock a folder until this process ends; False if another process has the lock."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be writable, but not readable
        return True
    if lock(descriptor):
        return True  # and stays open
    os.close(descriptor)
    return False


def is_regular_file(descriptor: int) -> bool:
    """Whether it is a regular file and no pipe, terminal or other device."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _lock_or_close(file: BinaryIO, path: Path) -> None:
    if not lock(file.fileno()):
        file.close()
        raise OSError(errno.EWOULDBLOCK, "already being written to", str(path))


def _open_when_read(path: Path) -> int:
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"evserve: {path}: waiting for a reader of this pipe\n")
            sys.stderr.flush()
        return os.open(path, os.O_WRONLY)
    except KeyboardInterrupt:
        raise SystemExit(1) from None


def write_all(out: IO[bytes], data: bytes, name: str) -> None:
    """Write `data` to an unbuffered stream; raises OSError with `name` as its file name.

    In one call if the disk takes it all, so that it is there or not whenever this process is
    killed. A disk that takes only a part reports the reason with the next call.
    """
    try:
        written = out.write(data) or 0
        if written != len(data):
            view = memoryview(data)[written:]
            while view:
                view = view[out.write(view) or 0 :]
    except OSError as error:
        error.filename = name
        raise


@define(eq=False)
class Disk:
    """Group sync: one sync serves everything that was written while the last one ran.

    Written data survives a power cut only after a sync. A sync for each file would cost more than
    the fetch, and each system call of a thread waits until a busy reactor releases the GIL. So
    one sync runs at a time, in one thread, and many files are synced by one syncfs(2), which
    takes the whole file system.

    After a failed sync nothing is promised any more: the kernel may have dropped what it could not
    write, and a second sync would succeed.
    """

    clock: IReactorTime
    _in_thread: Callable[..., Deferred[Any]]
    _sync: Callable[[Iterable[SyncTarget]], None] = field(factory=lambda: sync_now)
    _targets: set[SyncTarget] = field(factory=set, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)
    _is_busy: bool = field(default=False, init=False)
    _error: OSError | None = field(default=None, init=False)

    def include(self, *targets: SyncTarget) -> None:
        """Add targets to the next sync."""
        self._targets.update(targets)

    def sync(self, *targets: SyncTarget) -> Deferred[None]:
        """Fire when all that was written to these and to included targets is on disk.

        Fails with OSError.
        """
        self._targets.update(targets)
        synced: Deferred[None] = Deferred()
        self._waiting.append(synced)
        if not self._is_busy:
            self._is_busy = True
            # Later, so that it serves others of this turn, too.
            self.clock.callLater(0, lambda: Deferred.fromCoroutine(self._run()))
        return synced

    async def flush(self) -> None:
        """Sync until no callback of a sync has asked for another one."""
        while True:
            with suppress(OSError):
                await self.sync()
            if not self._waiting:
                break

    async def _run(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            targets, self._targets = self._targets, set()
            try:
                await self._in_thread(self._sync, targets)
            except Exception as error:
                self._error = error if isinstance(error, OSError) else OSError(0, str(error))
            for synced in waiting:
                if self._error is None:
                    synced.callback(None)
                else:
                    synced.errback(self._error)
        self._is_busy = False


@define(eq=False)
class DiskThread:
    """The one thread that waits for the disk: `thread(f, x)` returns a Deferred of `f(x)`.

    The reactor's own threads look up names, and may all be waiting for a DNS server.
    """

    _reactor: Any
    _pool: ThreadPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = ThreadPool(0, 1, "evserve-fetch-disk")
        self._pool.start()
        # By then the services have stopped.
        self._reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._pool, function, *arguments)


def sync_now(targets: Iterable[SyncTarget]) -> None:
    """Block until what was written to `targets` is on disk. Raises OSError.

    Paths that do not exist any more are skipped.
    """
    targets = frozenset(targets)
    if len(targets) <= _MAX_FSYNCS:
        for target in targets:
            _with_descriptor(target, _fsync)
    else:
        _sync_file_systems(targets)


def _sync_file_systems(targets: Iterable[SyncTarget]) -> None:
    synced: set[int] = set()

    def sync_once(descriptor: int) -> None:
        device = os.fstat(descriptor).st_dev
        if device not in synced:
            synced.add(device)
            _syncfs(descriptor)

    # Files of one folder share a file system.
    for target in {os.path.dirname(each) if isinstance(each, str) else each for each in targets}:
        _with_descriptor(target, sync_once)


def _with_descriptor(target: SyncTarget, call: Callable[[int], None]) -> None:
    """Call `call` with a descriptor; its errors get the target's name."""
    try:
        if isinstance(target, int):
            call(target)
            return
        try:
            descriptor = os.open(target or ".", os.O_RDONLY)
        except FileNotFoundError:
            return
        except PermissionError:  # a folder may be writable, but not readable
            os.sync()
            return
        try:
            call(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if isinstance(target, str):
            error.filename = target
        else:
            with suppress(OSError):  # without /proc, the error has to do without a name
                error.filename = os.readlink(f"/proc/self/fd/{target}")
        raise


def _fsync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot sync folders
            raise


def _syncfs(descriptor: int) -> None:
    if not hasattr(_libc, "syncfs"):  # systems other than Linux
        os.sync()
    elif _libc.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
