"""Clusters of Debian's `postgresql` in temporary folders, and databases in a shared one."""

import atexit
import contextlib
import ctypes
import itertools
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from unittest import SkipTest
from urllib.parse import urlencode

from tests.ports import free_port


PROGRAMS = ("initdb", "postgres")
USER = "evserve"
"""The superuser of every cluster."""

MEMORY = 4 << 30
"""Free bytes of /dev/shm from which on it holds the clusters."""

# A copy of the template starts in a tenth of a second; a crash of the machine may lose it.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": 200,
    "fsync": "off",
    "full_page_writes": "off",
    "wal_init_zero": "off",
    "dynamic_shared_memory_type": "mmap",  # in its folder, so that nothing is left after a kill
    "hot_standby_feedback": "on",
    "wal_keep_size": "256MB",  # what a standby needs after it was copied
    "wal_retrieve_retry_interval": "100ms",
}

COPY = """
cp -a --reflink=auto -t "$0" "$@" 2>&1 | grep -v "No such file or directory" && exit 1 || true
"""

# A shell that outlives the test process, in whichever way that ends: no cluster stays behind.
WATCHDOG = """
read -r line
for file in "$0"/*/data/postmaster.pid; do
    pid=$(head -n 1 "$file") && kill -QUIT "$pid" || continue
    for _ in $(seq 1000); do test -f "$file" && sleep 0.01 || break; done
done
rm -rf "$0"
"""

_numbers = itertools.count(1)


@cache
def programs():
    """Return the folder with Postgres's programs; skips the test where there is none."""
    if shutil.which("psql") is None and shutil.which("pg_ctl") is None:
        raise SkipTest("postgresql is not installed")
    folders = [Path(path) for path in os.get_exec_path()]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        folders.append(Path(subprocess.check_output(["pg_config", "--bindir"], text=True).strip()))
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in PROGRAMS):
            return folder
    raise SkipTest("Postgres's server programs are not installed")


@cache
def identity():
    """Return arguments for `subprocess` that make an unprivileged user of root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise SkipTest("Postgres does not run as root, and there is no other user")


def run(program, *words):
    """Run one of Postgres's programs to its end."""
    command = [programs() / program, *map(str, words)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd="/", **identity()
    )
    if done.returncode:
        raise AssertionError(f"{program}: {done.stdout}{done.stderr}")


def give_away(path):
    """Make the user of `identity` the owner of a file or folder."""
    if who := identity():
        os.chown(path, who["user"], who["group"])


@cache
def base_folder():
    """Return the folder of this process's clusters.

    It is in memory where there is plenty, because a cluster has a thousand files. Otherwise it is
    in /tmp: TMPDIR may be closed to other users, or too long for a UNIX socket.
    """
    programs()
    where = "/tmp"
    with contextlib.suppress(OSError):
        space = os.statvfs("/dev/shm")
        if space.f_bavail * space.f_frsize > MEMORY:
            where = "/dev/shm"
    base = Path(tempfile.mkdtemp(prefix="evserve-pg-", dir=where))
    give_away(base)
    watchdog = subprocess.Popen(
        ["/bin/sh", "-c", WATCHDOG, base],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    atexit.register(watchdog.communicate)
    return base


@cache
def template():
    """Return the data folder that every cluster is copied from."""
    data = base_folder() / "template" / "data"
    run("initdb", "--no-sync", "-A", "trust", "-U", USER, "-E", "UTF8", "--no-locale", "-D", data)
    with data.joinpath("postgresql.conf").open("a") as file:
        file.write("include_if_exists = 'cluster.conf'\n")
    data.joinpath("pg_hba.conf").write_text(
        "local all all trust\nhost all all 127.0.0.1/32 trust\n"
        "host replication all 127.0.0.1/32 trust\nlocal replication all trust\n"
    )
    return data


class Cluster:
    """A Postgres server, at 127.0.0.1:`port` and at a UNIX socket in `folder`.

    settings: of postgresql.conf, besides SETTINGS.  environment: variables for the server.
    prepare: called in the server's process before it starts.  All methods block until what they
    do is done.
    """

    def __init__(self, *, source=None, environment=None, prepare=None, **settings):
        self.folder = base_folder() / str(next(_numbers))
        self.data = self.folder / "data"
        self.settings = {**SETTINGS, **settings}
        self.environment = environment or {}
        self.prepare = prepare
        self.process = None
        self.port = free_port()
        self.folder.mkdir()
        give_away(self.folder)
        if source is None:
            subprocess.run(["cp", "-a", "--reflink=auto", template(), self.data], check=True)
        else:
            self.copy(source)

    def copy(self, primary):
        """Become a standby of `primary` that has all of its data; this cluster is not running."""
        shutil.rmtree(self.data, ignore_errors=True)
        run("/bin/mkdir", "-m", "0700", self.data, self.data / "pg_wal")
        with primary.connect() as connection:
            connection.execute("SELECT pg_backup_start('copy', true)")
            others = {primary.data / name for name in ("pg_wal", "postmaster.pid")}
            # What has gone meanwhile is restored from the WAL, or need not be.
            run("/bin/sh", "-c", COPY, self.data, *(set(primary.data.iterdir()) - others))
            [(label,)] = connection.execute("SELECT labelfile FROM pg_backup_stop(false)")
        for name, text in (("backup_label", label), ("standby.signal", "")):
            self.data.joinpath(name).write_text(text)
            give_away(self.data / name)
        self.settings["primary_conninfo"] = (
            f"host=127.0.0.1 port={primary.port} user={USER} application_name=standby"
        )

    def address(self, database="postgres"):
        """Return a conninfo that leads through the UNIX socket."""
        return f"host={self.folder} port={self.port} user={USER} dbname={database}"

    def url(self, database="postgres", **parameters):
        """Return a URL that leads through TCP, with parameters of libpq or of the engine."""
        return url_of([("127.0.0.1", self.port)], database, **parameters)

    def connect(self, database="postgres"):
        """Return a psycopg connection that commits each statement by itself."""
        import psycopg

        return psycopg.connect(self.address(database), autocommit=True)

    def query(self, statement, *values, database="postgres"):
        """Return the rows of one statement; empty if it has none."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self):
        """Return the name of a new, empty database."""
        name = f"test{next(_numbers)}"
        self.query(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def add_role(self, name, password):
        """Make a role that may do everything and has to tell its password on TCP."""
        self.query(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{password}'")
        rules = self.data / "pg_hba.conf"
        rules.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self.query("SELECT pg_reload_conf()")

    def configure(self, **settings):
        """Change settings; those that need a restart change with the next start."""
        self.settings.update(settings)
        self._write_settings()
        if self.process is not None:
            self.query("SELECT pg_reload_conf()")

    def _write_settings(self):
        settings = {**self.settings, "port": self.port, "unix_socket_directories": self.folder}
        self.data.joinpath("cluster.conf").write_text(
            "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        )

    def start(self):
        """Start, and return self once connections are accepted."""
        for _ in range(5):  # another process may have taken the port in between
            self._write_settings()
            with self.folder.joinpath("log").open("ab") as log:
                self.process = subprocess.Popen(
                    [programs() / "postgres", "-D", self.data],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env={"PATH": os.defpath, **self.environment},
                    start_new_session=True,  # a Ctrl-C at the terminal is not for it
                    preexec_fn=self.prepare,  # noqa: PLW1509 - it makes system calls only
                    **identity(),
                )
            if self._wait_until_ready():
                return self
            self.process = None
            if "Address already in use" not in self.log():
                break
            self.port = free_port()
        raise AssertionError(self.log())

    def _wait_until_ready(self):
        """Return False if the server has ended instead."""
        while self.process.poll() is None:
            with contextlib.suppress(OSError):
                lines = self._pid_file()
                if lines[:1] == [str(self.process.pid)] and lines[-1] in {"ready", "standby"}:
                    return True
            time.sleep(0.005)
        return False

    def _pid_file(self):
        """Return the lines of postmaster.pid (src/include/utils/pidfile.h)."""
        lines = self.data.joinpath("postmaster.pid").read_text().splitlines()
        return [line.strip() for line in lines]

    def log(self):
        return self.folder.joinpath("log").read_text(errors="replace")

    def stop(self, how=signal.SIGQUIT):
        """Stop as an immediate shutdown does, or with SIGINT (fast) or SIGTERM (smart)."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def kill(self):
        """Kill all processes of the server with SIGKILL, as a power cut does."""
        if self.process is None:
            return
        postmaster = self.process.pid
        segment = self._pid_file()[6].split()
        self.process.send_signal(signal.SIGSTOP)  # it starts no other process from here on
        watched = select.poll()
        descriptors = set()
        for pid in children_of(postmaster):
            with contextlib.suppress(ProcessLookupError):
                descriptors.add(os.pidfd_open(pid))
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.process = None
        for descriptor in descriptors:
            watched.register(descriptor, select.POLLIN)
        while descriptors:
            for descriptor, _ in watched.poll():
                watched.unregister(descriptor)
                os.close(descriptor)
                descriptors.discard(descriptor)
        ctypes.CDLL(None).shmctl(int(segment[1]), 0, None)  # IPC_RMID

    def remove(self):
        """Stop and delete the cluster."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def standby(self, **settings):
        """Return a new cluster, started, that follows this one."""
        return Cluster(source=self, **settings).start()

    def wait_for_standby(self):
        """Make commits wait for the standby from now on, and return once it follows."""
        self.configure(synchronous_standby_names="*")
        following = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        while self.query(following) != [(1,)]:
            time.sleep(0.01)

    def promote(self):
        """Make a primary of this standby, whose commits wait for no other cluster."""
        self.configure(synchronous_standby_names="")
        self.query("SELECT pg_promote(true, 600)")


def children_of(pid):
    """Return the ids of a process's children."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = file.read_text().rpartition(")")
            if int(rest.split()[1]) == pid:
                found.append(int(name.split()[0]))
    return found


def start_cluster(test, **settings):
    """Return a cluster for `test` alone, which is removed after it."""
    cluster = Cluster(**settings)
    test.addCleanup(cluster.remove)
    return cluster.start()


@cache
def shared_cluster():
    """Return the cluster that the tests of this process share."""
    return Cluster().start()


def fresh_database():
    """Return the URL of a new, empty database in the shared cluster."""
    cluster = shared_cluster()
    return cluster.url(cluster.create_database())


def url_of(addresses, database, **parameters):
    """Return a URL with several (host, port) pairs, with parameters of libpq or of the engine."""
    hosts = ",".join(f"{host}:{port}" for host, port in addresses)
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"postgresql://{USER}@{hosts}/{database}{query}"
