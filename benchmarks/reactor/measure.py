"""Runs one server and one client, each on a core of its own, and reads the server's CPU time.

Under valgrind it counts the instructions that the server executes for each answer instead. Unlike
CPU time they do not depend on what else the machine does. They leave out the kernel, which is most
of an echo, so they tell what a change is worth but not which server is faster. Answers that are
slow under valgrind, such as a web server's, need several `--seconds` for a steady figure.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from statistics import median

from attrs import define, frozen

from benchmarks.goals import ratio


_LISTENING = re.compile(r"listening on tcp \S+:(\d+)")
_LONGEST = 10  # seconds in which each connection must have had an answer
_CALLGRIND_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)
_CALLGRIND_TOOLS = "valgrind", "callgrind_control"


@frozen
class Load:
    """What the client does; sizes in bytes. `depth` 0: a new connection for each request.

    opening: what is sent once on each connection, before the requests.
    """

    connections: int
    request: bytes
    answer: int
    depth: int = 1
    opening: bytes = b""
    opening_answer: int = 0


@frozen
class Result:
    """Answers, seconds that passed, and seconds of the server's CPU."""

    answers: int
    seconds: float
    cpu: float

    @property
    def cost(self) -> float:
        """Microseconds of the server's CPU for each answer."""
        return self.cpu / max(self.answers, 1) * 1e6

    @property
    def per_cpu_second(self) -> float:
        """Answers for each second of the server's CPU."""
        return self.answers / max(self.cpu, 1e-9)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds


@define
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    @property
    def cpu(self) -> float:
        """Seconds of CPU used so far, to the nanosecond: the ticks in /proc are 10 ms."""
        clock = (~self.process.pid << 3) | 2  # what clock_getcpuclockid(3) returns on Linux
        return time.clock_gettime(clock)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


@define
class Client:
    """A connected client."""

    process: subprocess.Popen[str]

    def work(self, server: Server) -> Result:
        """Put the load on the server once."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        before = server.cpu
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answers, seconds = self.process.stdout.readline().split()
        return Result(int(answers), float(seconds), server.cpu - before)


@contextmanager
def start_server(command: list[str]) -> Iterator[Server]:
    """Run a server on the first core."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: S603  # our own commands
        [*_pin(0), *command], stdout=pipe, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := _LISTENING.search(line):
                yield Server(process, int(found[1]))
                break
        else:
            raise RuntimeError(f"{command} does not listen")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def connect_client(program: str, server: Server, load: Load, seconds: float) -> Iterator[Client]:
    """Run a client on the last core, connected to `server`."""
    with tempfile.NamedTemporaryFile() as request:
        request.write(load.opening + load.request)
        request.flush()
        words = [server.port, load.connections, load.depth, seconds, load.answer, request.name]
        words += [len(load.opening), load.opening_answer]
        process = subprocess.Popen(  # noqa: S603  # our own program
            [*_pin(-1), program, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the client can't connect")
            yield Client(process)
        finally:
            process.kill()
            process.communicate()


def measure(program: str, server: Server, load: Load, seconds: float) -> Result:
    """Put one load on one server, again and longer if other programs kept the machine from it."""
    with connect_client(program, server, load, seconds) as client:
        result = client.work(server)
    if result.answers < load.connections and seconds < _LONGEST:
        return measure(program, server, load, 3 * seconds)
    return result


def table(results: Mapping[str, Sequence[Result]], reference: str) -> str:
    """Return medians: CPU per answer, answers per second, and rounds' ratios of the CPU."""
    lines = []
    for name, each in results.items():
        cost, rate = (median(getattr(one, what) for one in each) for what in ("cost", "rate"))
        found = ratio(results, "cost", name, reference)
        shown = "" if found is None else f"{found:8.2f}x"
        lines.append(f"  {name:18} {cost:9.2f} us {rate:10.0f} /s {shown}".rstrip())
    return "\n".join(lines)


def compile_c(name: str, folder: str) -> str | None:
    """Compile a C file beside this one and return the program; None without a compiler."""
    compiler = which("cc")
    if compiler is None:
        return None
    source, target = Path(__file__).with_name(f"{name}.c"), str(Path(folder, name))
    subprocess.run([compiler, "-O2", "-o", target, source], check=True)  # noqa: S603  # our own file
    return target


def missing_callgrind_tools() -> list[str]:
    """Return the programs that counting instructions needs and the machine lacks."""
    return [each for each in _CALLGRIND_TOOLS if which(each) is None]


def count_instructions(
    program: str, command: list[str], load: Load, seconds: float
) -> tuple[float, int]:
    """Return the server's instructions for each answer, and the number of answers."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "callgrind")
        words = [f"--callgrind-out-file={written}", "--instr-atstart=no"]
        tool = [which("valgrind") or "valgrind", "-q", "--tool=callgrind", *words]
        with start_server([*tool, *command]) as server:
            with connect_client(program, server, load, seconds) as client:
                client.work(server)  # a warm-up
            with connect_client(program, server, load, seconds) as client:
                _control(server.process.pid, "--instr=on")
                answers = client.work(server).answers
                _control(server.process.pid, "--dump")
        dumped = "".join(each.read_text() for each in Path(folder).glob("callgrind*"))
    total = sum(int(each) for each in _CALLGRIND_TOTAL.findall(dumped))
    return total / max(answers, 1), answers


def _control(pid: int, *words: str) -> None:
    control = which("callgrind_control") or "callgrind_control"
    subprocess.run([control, *words, str(pid)], check=True, capture_output=True)  # noqa: S603  # ours


def _pin(core: int) -> list[str]:
    """Return the words that keep a command on one of our cores."""
    cores = sorted(os.sched_getaffinity(0))
    return [which("taskset") or "taskset", "-c", str(cores[core])]
