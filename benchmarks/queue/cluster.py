"""A Postgres cluster of its own, from the binaries of Debian or of PATH, and its use of CPU."""

import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from attrs import define, field

from benchmarks.queue.servers import free_port


SETTINGS: Final[Mapping[str, str]] = {
    # Durable as by default (fsync, synchronous_commit and full_page_writes are on). No checkpoint
    # falls into a measurement, or it would cost one system what it saves the next.
    "checkpoint_timeout": "30min",
    "max_wal_size": "8GB",
    "shared_buffers": "512MB",
    "max_connections": "500",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # as from another machine
    "track_wal_io_timing": "on",
}
_V18: Final = 180_000
_SYNCS: Final = "SELECT wal_sync, wal_sync_time FROM pg_stat_wal"
_SYNCS_18: Final = "SELECT sum(fsyncs), sum(fsync_time) FROM pg_stat_io WHERE object = 'wal'"
_TICK: Final = os.sysconf("SC_CLK_TCK")


def find_program(name: str) -> Path | None:
    """Return a program of the newest Postgres installed, None if there is none."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name)
    )
    found = shutil.which(name, path=str(folders[-1])) if folders else shutil.which(name)
    return Path(found) if found else None


@define(eq=False)
class Cluster:
    """A running primary, and a synchronous standby if wanted; use it as a context manager.

    folder: new.  standby: commits wait until it has synced them.
    """

    folder: Path
    standby: bool = False
    settings: Mapping[str, str] = SETTINGS
    _password: str = field(init=False, factory=lambda: secrets.token_hex(8))
    _port: int = field(init=False, factory=free_port)
    _servers: "list[subprocess.Popen[bytes]]" = field(init=False, factory=list)
    _databases: int = field(init=False, default=0)
    _user: str | None = field(init=False)
    _operator: "psycopg.Connection[Any]" = field(init=False)

    def __attrs_post_init__(self) -> None:
        # The server refuses to run as root.
        self._user = _unprivileged_user() if os.getuid() == 0 else None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        password = self.folder / "password"
        password.write_text(self._password)
        if self._user is not None:
            shutil.chown(self.folder, self._user)
            shutil.chown(password, self._user)
        self.folder.chmod(0o700)
        data = self.folder / "primary"
        self._run(
            *("initdb", "-D", str(data), "-U", "bench", "--pwfile", str(password), "-E", "UTF8"),
            *("--locale=C", "--auth=scram-sha-256", "--no-sync"),
        )
        self._start(data, self._port)
        self._operator = psycopg.connect(self.url(), autocommit=True)
        if self.standby:
            self._start_standby()
        return self

    def __exit__(self, *_: object) -> None:
        self._operator.close()
        for server in reversed(self._servers):
            server.send_signal(3)  # SIGQUIT: at once, its processes included
            server.wait()

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://bench:{self._password}@127.0.0.1:{self._port}/{database}"

    def fresh(self) -> str:
        """Return the URL of a new database, after removing the last one."""
        if self._databases:
            self._operator.execute(f"DROP DATABASE run{self._databases} WITH (FORCE)")
        self._databases += 1
        self._operator.execute(f"CREATE DATABASE run{self._databases}")
        self._operator.execute("CHECKPOINT")
        return self.url(f"run{self._databases}")

    def cpu(self) -> float:
        """Return the seconds of CPU that the primary's processes have used, ended ones too."""
        return tree_cpu(self._servers[0].pid)

    def wal(self) -> int:
        """Return the bytes of WAL written so far."""
        found = self._operator.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchall()
        return int(found[0][0])

    def syncs(self) -> tuple[int, float]:
        """Return how often the WAL has been synced, and the microseconds that took.

        Waits until all clients have left: a server process tells its last syncs when it ends.
        """
        others = (
            "SELECT FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        while self._operator.execute(others).fetchall():
            time.sleep(0.01)
        query = _SYNCS if self._operator.info.server_version < _V18 else _SYNCS_18
        number, milliseconds = self._operator.execute(query).fetchall()[0]
        return int(number), milliseconds * 1000

    def _start(self, data: Path, port: int) -> None:
        with (data / "postgresql.auto.conf").open("a") as file:
            values = {**self.settings, "port": str(port)}
            file.writelines(f"{name} = '{value}'\n" for name, value in values.items())
        program = find_program("postgres")
        assert program is not None
        with (self.folder / f"{data.name}.log").open("wb") as log:
            server = subprocess.Popen(  # noqa: S603 - found above
                [program, "-D", str(data)], user=self._user, stdout=log, stderr=log, cwd="/"
            )
        self._servers.append(server)
        address = f"postgresql://bench:{self._password}@127.0.0.1:{port}/postgres"
        end = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < end:
            try:
                psycopg.connect(address).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return
        raise SystemExit(f"postgres: does not start ({self.folder / data.name}.log says why)")

    def _start_standby(self) -> None:
        data = self.folder / "standby"
        self._run(
            *(
                "pg_basebackup",
                "--no-password",
                "-D",
                str(data),
                "-R",
                "-c",
                "fast",
                "-X",
                "stream",
            ),
            *("-h", "127.0.0.1", "-p", str(self._port), "-U", "bench"),
        )
        self._start(data, free_port())
        self._operator.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._operator.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        while self._operator.execute(state).fetchall() != [("sync",)]:
            time.sleep(0.02)

    def _run(self, name: str, *words: str) -> None:
        program = find_program(name)
        assert program is not None, name
        done = subprocess.run(  # noqa: S603 - found above
            [program, *words],
            user=self._user,
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env={**os.environ, "PGPASSWORD": self._password},
        )
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr.strip()}")


def tree_cpu(pid: int) -> float:
    """Return the seconds of CPU of a process, its children, and those that have ended."""
    while True:
        before = _stat(pid)
        ticks = sum(before[11:15])
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = _stat(int(path.parent.name))
            except OSError:  # it has just ended
                continue
            if fields[1] == pid:
                ticks += sum(fields[11:13])
        # A child that ended meanwhile is counted twice, or not at all.
        if _stat(pid)[13:15] == before[13:15]:
            return ticks / _TICK


def _stat(pid: int) -> list[int]:
    """Return the numbers of proc(5)'s stat from the third field on, 0 for the state's letter."""
    _, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [0, *map(int, numbers)]


def _unprivileged_user() -> str:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"
