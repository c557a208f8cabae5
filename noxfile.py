"""What CI runs, a session each: `nox -l` lists them, `nox -s lint` runs one, `nox -j 3` all.

They start in this order, the longest first.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nox


nox.options.allow_parallel = True
nox.options.default_venv_backend = "uv|venv"  # uv installs in a second what takes pip fifteen
nox.options.stop_on_first_error = False

README_COMMAND = re.search(
    r"<!-- tests -->\n```sh\n(.*)\n```", Path("README.md").read_text(encoding="utf-8")
)[1]
FEWER_CRASHES = {"EVSERVE_CRASH_ROUNDS": "5"}  # README's command kills the queue 25 times


def python(version: str) -> str | None:
    """Return `version` if that Python is installed and starts, None for the one that runs nox."""
    try:
        subprocess.run([f"python{version}", "-c", ""], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return version


@contextmanager
def fresh_copy(session: nox.Session) -> Iterator[None]:
    """Change into a copy of the project, with nothing that git ignores."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = session.run(*listed, external=True, silent=True, stderr=subprocess.DEVNULL).split("\0")
    with TemporaryDirectory() as copy:
        for name in filter(os.path.exists, filter(None, names)):
            Path(copy, name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, Path(copy, name))
        with session.chdir(copy):
            yield


@nox.session(python=python("3.13"))
@nox.parametrize("half", [0, 1])  # of the files: pytest runs one test at a time
def pytest_integration(session: nox.Session, half: int) -> None:
    """The integration tests under pytest, on the uvloop reactor, with the servers on epoll."""
    session.install("-e", ".[dev]")
    files = sorted(map(str, Path("tests/integration").glob("test_*.py")))
    session.run(
        *("pytest", "-q", "--reactor", "uvloop", *files[half::2]),
        env={"EVSERVE_TEST_REACTOR": "epoll", **FEWER_CRASHES},
    )


@nox.session(venv_backend="none")
def readme(session: nox.Session) -> None:
    """README's test command, word for word; the servers run on the default reactor."""
    with fresh_copy(session):
        session.run("/bin/sh", "-c", README_COMMAND, external=True, env=FEWER_CRASHES)


@nox.session(venv_backend="none")
def bare(session: nox.Session) -> None:
    """README's test command on a machine that has Python, a shell, coreutils and nothing else."""
    files = session.run("dpkg", "-L", "coreutils", external=True, silent=True).split()
    programs = [path for path in map(Path, files) if path.parent.name in ("bin", "sbin")]
    with TemporaryDirectory() as folder, fresh_copy(session):
        for program in programs:
            Path(folder, program.name).symlink_to(program)
        Path(folder, "python3").symlink_to(Path(sys.executable).resolve())
        environment = {"PATH": folder, **FEWER_CRASHES}
        session.run("/bin/sh", "-c", README_COMMAND, external=True, env=environment)


@nox.session(python=python("3.13"))
def pytest_unit(session: nox.Session) -> None:
    """All other tests under pytest, and the lines that they cover."""
    session.install("-e", ".[dev]")
    others = ("--ignore=tests/integration", "--ignore=tests/chaos")
    monitor = {"COVERAGE_CORE": "sysmon"}  # Python's own, which costs next to nothing
    session.run("coverage", "run", "-m", "pytest", "-q", "tests", *others, env=monitor)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session(python=python("3.13"))
def chaos(session: nox.Session) -> None:
    """Ten rounds of each scenario of tests/chaos; their figures are printed."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-q", "-s", "tests/chaos", env={"EVSERVE_CHAOS_ROUNDS": "10"})


@nox.session(python=python("3.12"))
def asyncio(session: nox.Session) -> None:
    """Some servers on Twisted's asyncio reactor, and the tests of reactors, under trial."""
    session.install("-e", ".[dev]")
    servers = ("default_reactor", "reactor", "echo", "server", "queue_server", "asyncio_libraries")
    session.run(
        *("trial", "--reactor=uvloop", "-j", "2"),
        *("--temp-directory", str(Path(session.create_tmp(), "trial"))),
        *("tests.reactor", "tests.echo", *(f"tests.integration.test_{name}" for name in servers)),
        env={"EVSERVE_TEST_REACTOR": "asyncio", **FEWER_CRASHES},
    )


@nox.session(python=python("3.13"))
def asgi(session: nox.Session) -> None:
    """Starlette's and uvicorn's own tests on the service `asgi`, and on uvicorn as the measure."""
    session.install("-e", ".[dev]", "starlette[full]", "opentelemetry-sdk", "pip")
    suites = Path("tests/web/asgi/own_suites.py").resolve()
    for project in ("starlette", "uvicorn"):
        show_version = f"import {project}; print({project}.__version__)"
        version = session.run("python", "-c", show_version, silent=True).strip()
        with TemporaryDirectory() as folder:
            words = ("--no-deps", "--no-binary", project, f"{project}=={version}")
            session.run("python", "-m", "pip", "download", "-q", "-d", folder, *words)
            session.run("python", suites, project, *Path(folder).glob("*.tar.gz"))


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel: it installs, runs and uninstalls, and leaves Twisted intact."""
    session.install("build")
    with TemporaryDirectory() as folder:
        session.run(".ci/check-wheel", f"{session.bin}/python", folder, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy --strict and import-linter."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "--strict")
    session.run("lint-imports")
