"""The servers to compare, as child processes, and their use of CPU and memory."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

from attrs import define, field, frozen


HERE: Final = Path(__file__).parent
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@frozen
class Kind:
    """A server to measure. `command` may have {port} and {folder}; `syncs`: before each reply."""

    name: str
    command: tuple[str, ...]
    syncs: bool

    @property
    def installed(self) -> bool:
        """Whether its program is on PATH."""
        return shutil.which(self.command[0]) is not None


_BEANSTALKD: Final = ("beanstalkd", "-l", "127.0.0.1", "-p", "{port}")
_STORE: Final = ("--store", "{folder}/q.db")


def _evserve(reactor: str, *options: str) -> tuple[str, ...]:
    twistd = str(Path(sys.executable).with_name("twistd"))
    words = (f"--reactor={reactor}", "-n", "evserve", "queue", "--port", "{port}")
    return (twistd, *words, *options)


BEANSTALKD: Final = Kind("beanstalkd -f0", (*_BEANSTALKD, "-b", "{folder}", "-f0"), True)
BEANSTALKD_MEMORY: Final = Kind("beanstalkd, no binlog", _BEANSTALKD, False)
EVSERVE: Final = Kind("evserve", _evserve("uvloop", *_STORE), True)
EVSERVE_EPOLL: Final = Kind("evserve on epoll", _evserve("epoll", *_STORE), True)
EVSERVE_MEMORY: Final = Kind("evserve, :memory:", _evserve("uvloop"), False)
EVSERVE_MEMORY_EPOLL: Final = Kind("evserve, :memory:, epoll", _evserve("epoll"), False)


@frozen
class Usage:
    """What a process has used: seconds of CPU, resident bytes."""

    cpu: float
    memory: int


@define(eq=False)
class Server:
    """A running server; use it as a context manager."""

    kind: Kind
    folder: Path
    env: dict[str, str]
    port: int = field(init=False)
    started: float = field(init=False)
    _process: "subprocess.Popen[bytes]" = field(init=False)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        words = [
            word.format(port=self.port, folder=self.folder.absolute())
            for word in self.kind.command
        ]
        self.started = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - the commands above
            words,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.ask(b"stats\r\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, command: bytes) -> bytes:
        """Send a command once the server accepts connections; return the start of its reply."""
        end = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 60) as client:
                    client.sendall(command)
                    return client.recv(4096)
            except ConnectionError:
                time.sleep(0.005)
        raise SystemExit(f"{self.kind.name}: does not start ({' '.join(self.kind.command)})")

    def usage(self) -> Usage:
        """Read the CPU time and memory of the process from /proc."""
        proc = Path(f"/proc/{self._process.pid}")
        fields = proc.joinpath("stat").read_text().rpartition(")")[2].split()
        pages = int(proc.joinpath("statm").read_text().split()[1])
        return Usage((int(fields[11]) + int(fields[12])) / _TICK, pages * _PAGE)


def free_port() -> int:
    """Return a port of the loopback interface that no server has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
