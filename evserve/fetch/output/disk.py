"""Group sync: one wait for the disk serves everything that was written while it was busy.

What must survive a power cut is not on the disk when it is written, only when it is synced; and
whoever promises something must ask for that first. A sync for each file would cost more than the
fetch does, and each system call of a thread waits for a busy reactor to let go of the
interpreter. So one sync is under way at a time, in one thread, and many files are synced by one
call: syncfs(2), which takes the whole file system.
"""

import ctypes
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool


class Stream(Protocol):
    """What is written to, unbuffered: it survives this process as soon as it is written."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Take some of it; return how many bytes."""


def write_all(out: Stream, data: bytes, name: str) -> None:
    """Write; raises OSError with `name` as its file name.

    In one call, if the disk takes it all, so that it is there or not whenever this process is
    killed. A disk that takes a part says why when it is offered the rest.
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


_UNCLAIMED = (errno.EWOULDBLOCK, errno.EACCES)


def open_stream(path: Path) -> BinaryIO:
    """Open what may be a file, a pipe or a device, unbuffered, to be written to.

    A file is claimed, and is left as it is; a pipe is waited for until it has a reader, and
    standard error says so. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO or not stat.S_ISFIFO(path.stat().st_mode):
            raise
        descriptor = _open_when_read(path)
    out = os.fdopen(descriptor, "wb", buffering=0)
    os.set_blocking(descriptor, True)
    if is_file(descriptor):
        _claim_or_close(out, path)
    return out


def open_file(path: Path) -> BinaryIO:
    """Open or make a file, unbuffered, to be read and written, and claim it; raises OSError."""
    # A pipe must not be waited for.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    file = os.fdopen(descriptor, "r+b", buffering=0) if is_file(descriptor) else None
    if file is None:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it must be a file", str(path))
    _claim_or_close(file, path)
    return file


def claim(descriptor: int) -> bool:
    """Keep a file or folder for as long as it is open; False if another process has it.

    File systems that know nothing of the kind give it to everybody.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _UNCLAIMED
    return True


def claim_folder(folder: Path) -> bool:
    """Claim a folder until this process ends; False if another has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # to write to, but not to look into
        return True
    if claim(descriptor):
        return True  # and stays open
    os.close(descriptor)
    return False


def is_file(descriptor: int) -> bool:
    """Whether it is a regular file, no pipe, terminal or other device."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _claim_or_close(file: BinaryIO, path: Path) -> None:
    if not claim(file.fileno()):
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


Place = str | int  # the path of a file or a folder, or a descriptor
Done = Callable[[OSError | None], object]
_FEW = 8  # files; more are not worth naming one by one
_libc = ctypes.CDLL(None, use_errno=True)
_log = Logger(namespace="evserve.fetch")


def sync(places: Iterable[Place]) -> None:
    """Wait until what was written to `places` is on the disk; raises OSError.

    A path that is gone needs no sync.
    """
    places = frozenset(places)
    if len(places) <= _FEW:
        for place in places:
            _with_descriptor(place, _fsync)
    else:
        _sync_file_systems(places)


def _sync_file_systems(places: Iterable[Place]) -> None:
    done: set[int] = set()

    def sync_once(descriptor: int) -> None:
        device = os.fstat(descriptor).st_dev
        if device not in done:
            done.add(device)
            _syncfs(descriptor)

    # Files of one folder share a file system.
    for place in {os.path.dirname(each) if isinstance(each, str) else each for each in places}:
        _with_descriptor(place, sync_once)


def _with_descriptor(place: Place, call: Callable[[int], None]) -> None:
    if isinstance(place, int):
        _named(place, place, call)
        return
    try:
        descriptor = os.open(place or ".", os.O_RDONLY)
    except FileNotFoundError:
        return
    except PermissionError:  # a folder to write to, but not to look into
        os.sync()
        return
    try:
        _named(place, descriptor, call)
    finally:
        os.close(descriptor)


def _named(place: Place, descriptor: int, call: Callable[[int], None]) -> None:
    try:
        call(descriptor)
    except OSError as error:
        if isinstance(place, str):
            error.filename = place
        else:
            with suppress(OSError):  # where there is no /proc, the error says enough
                error.filename = os.readlink(f"/proc/self/fd/{place}")
        raise


def _fsync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # folders, on file systems that know nothing of the kind
            raise


def _syncfs(descriptor: int) -> None:
    if not hasattr(_libc, "syncfs"):  # systems other than Linux
        os.sync()
    elif _libc.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@define(eq=False)
class DiskThread:
    """The one place that waits for the disk: `thread(f, x)` gives a Deferred of `f(x)`.

    Threads that look up names may all be waiting for a server; this one is never theirs.
    """

    _reactor: Any
    _pool: ThreadPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = ThreadPool(0, 1, "evserve-fetch-disk")
        self._pool.start()
        # By then the services have stopped.
        self._reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Run a function in the thread."""
        return deferToThreadPool(self._reactor, self._pool, function, *arguments)


@define(eq=False)
class Disk:
    """Syncs in `in_thread`; once a sync has failed, nothing is promised any more.

    After a failure the kernel may forget what it could not write: a second sync would succeed.
    """

    clock: IReactorTime
    _in_thread: Callable[..., Deferred[Any]]
    _sync: Callable[[Iterable[Place]], None] = sync
    _places: set[Place] = field(factory=set, init=False)
    _waiting: list[Done] = field(factory=list, init=False)
    _is_busy: bool = field(default=False, init=False)
    _trouble: OSError | None = field(default=None, init=False)

    def touched(self, *places: Place) -> None:
        """Note what the next sync is to include."""
        self._places.update(places)

    def synced(self, done: Done, *places: Place) -> None:
        """Call `done` when all that was written before this call is on the disk.

        It is told the error, None if there was none.
        """
        self._places.update(places)
        self._waiting.append(done)
        if not self._is_busy:
            self._is_busy = True
            self.clock.callLater(0, self._begin)  # so that it serves this turn's others, too

    def idle(self) -> Deferred[None]:
        """Fire when all that was noted is synced, and all who waited know."""
        fired: Deferred[None] = Deferred()

        def look(_: OSError | None) -> None:
            if self._waiting:
                self.synced(look)
            else:
                fired.callback(None)

        self.synced(look)
        return fired

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        places, self._places = self._places, set()
        syncing = self._in_thread(self._sync, places)
        syncing.addErrback(self._failed)
        syncing.addCallback(self._over, waiting)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        self._trouble = error if isinstance(error, OSError) else OSError(0, str(error))

    def _over(self, _: object, waiting: list[Done]) -> None:
        for done in waiting:
            try:
                done(self._trouble)
            except Exception:  # the others are still waiting, and so is whoever comes later
                _log.failure("a file is synced, but whoever waited for it failed")
        if self._waiting:
            self._begin()
        else:
            self._is_busy = False
