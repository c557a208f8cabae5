"""Debian's Redis, started for each measurement, and its use of CPU."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from attrs import define, field

from benchmarks.queue.cluster import tree_cpu
from benchmarks.queue.servers import free_port


@define(eq=False)
class Redis:
    """A running server; use it as a context manager.

    always: each command is synced before its reply; else Debian's default, which syncs nothing.
    """

    folder: Path
    always: bool
    _port: int = field(init=False, factory=free_port)
    _server: "subprocess.Popen[bytes]" = field(init=False)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()

    def fresh(self) -> str:
        """Return the URL of an empty server."""
        self.__exit__()
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self._start()
        return f"redis://127.0.0.1:{self._port}"

    def cpu(self) -> float:
        """Return the seconds of CPU that the server has used."""
        return tree_cpu(self._server.pid)

    def wal(self) -> int:
        """Return 0: its log is not compared."""
        return 0

    def _start(self) -> None:
        words = ["--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self.folder)]
        if self.always:
            words += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        program = shutil.which("redis-server")
        assert program is not None
        self._server = subprocess.Popen(  # noqa: S603 - found above
            [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 30
        while self._server.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except ConnectionError:
                time.sleep(0.01)
            else:
                return
        raise SystemExit("redis-server: does not start")
