"""`python -m benchmarks.reactor [--seconds S] [--rounds N] [--only SCENARIO,...]`.

Contenders take turns in every round, and what counts is the median of the ratios within rounds:
absolute figures drift with the machine. Counting `--instructions` instead, they do not.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.reactor.instructions import count, missing_tools
from benchmarks.reactor.measure import Load, Result, client, compile_c, running
from benchmarks.reactor.servers import contenders, web


REFERENCE = "uvloop Protocol"
IDLE = 10_000  # connections

ECHOES = {
    name: Load(connections, b"x" * size, size, depth)
    for name, connections, size, depth in [
        ("10 x 1024 B", 10, 1024, 1),
        ("100 x 64 B", 100, 64, 1),
        ("100 x 1024 B", 100, 1024, 1),
        ("100 x 65536 B", 100, 65536, 1),
        ("1000 x 1024 B", 1000, 1024, 1),
        ("100 x 64 B x50", 100, 64, 50),
        ("100 x 1024 B x50", 100, 1024, 50),
    ]
}
ACCEPTS = "new connections"
MEMORY = "idle connections"
WEB = "twisted.web"


def measure(program: str, command: list[str], load: Load, seconds: float) -> Result:
    """Run one server under one load, after a short warm-up."""
    with running(command) as server:
        with client(program, server, load, min(seconds, 0.3)) as warming:
            warming.work(server)
        with client(program, server, load, seconds) as working:
            return working.work(server)


def compare(
    program: str, found: dict[str, list[str]], load: Load, asked: argparse.Namespace
) -> str:
    """Return a table: CPU per answer, answers per second, and the ratio to the reference."""
    if asked.instructions:
        return compare_instructions(program, found, load, asked.seconds)
    rounds = [
        {name: measure(program, each, load, asked.seconds) for name, each in found.items()}
        for _ in range(asked.rounds)
    ]
    reference = REFERENCE if REFERENCE in found else next(iter(found))
    lines = []
    for name in found:
        cost = median(each[name].cost for each in rounds)
        rate = median(each[name].answers / each[name].seconds for each in rounds)
        ratio = median(each[name].cost / each[reference].cost for each in rounds)
        lines.append(f"  {name:18} {cost:9.2f} us {rate:10.0f} /s {ratio:8.2f}x")
    return "\n".join(lines)


def compare_instructions(
    program: str, found: dict[str, list[str]], load: Load, seconds: float
) -> str:
    """Return a table: instructions per answer, outside the kernel, and how many were looked at."""
    lines = []
    for name, command in found.items():
        with tempfile.TemporaryDirectory() as folder:
            each, answers = count(program, command, load, seconds, folder)
        lines.append(f"  {name:18} {each:9.0f} instructions ({answers} answers)")
    return "\n".join(lines)


def memory(program: str, found: dict[str, list[str]]) -> str:
    """Return a table: resident bytes per idle connection."""
    lines = []
    for name, command in found.items():
        with running(command) as server:
            with client(program, server, Load(100, b"x", 1), 0.2) as warming:
                warming.work(server)
            before = server.memory
            with client(program, server, Load(IDLE, b"x", 1), 0) as idle:
                idle.work(server)
                lines.append(f"  {name:18} {(server.memory - before) / IDLE:9.0f} B")
    return "\n".join(lines)


def web_load(port: int) -> Load:
    """Return a keep-alive client's load; the length of the answer is asked for once."""
    import socket

    request = b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as probe:
        probe.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < 1024:  # noqa: PLR2004  # the file's size
            answer += probe.recv(65536)
    return Load(100, request, len(answer))


def main() -> None:
    """Measure what is asked for and print as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reactor")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="scenarios, separated by commas")
    parser.add_argument("--instructions", action="store_true", help="not CPU time (valgrind)")
    asked = parser.parse_args()
    if asked.instructions and (missing := missing_tools()):
        sys.exit(f"--instructions needs {' and '.join(missing)}: install valgrind")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        program = compile_c("load", folder)
        if program is None:
            sys.exit("the load client is a C program: install a C compiler (cc)")
        run(program, folder, asked)


def run(program: str, folder: str, asked: argparse.Namespace) -> None:
    """Measure with the compiled client."""
    found = contenders(compile_c("echo", folder))
    wanted = asked.only.split(",") if asked.only else [*ECHOES, ACCEPTS, MEMORY, WEB]
    for name in wanted:
        print(f"{name}:", flush=True)
        if name == MEMORY:
            print(memory(program, found), flush=True)
        elif name == WEB:
            print(compare_web(program, folder, asked), flush=True)
        else:
            load = Load(20, b"x", 1, 0) if name == ACCEPTS else ECHOES[name]
            print(compare(program, found, load, asked), flush=True)


def compare_web(program: str, folder: str, asked: argparse.Namespace) -> str:
    """Return a table for Twisted's web server, which serves a file of 1 KiB."""
    site = Path(folder, "site")
    site.mkdir(exist_ok=True)
    (site / "file").write_bytes(b"x" * 1024)
    found = {name: web(name, str(site)) for name in ("epoll", "uvloop")}
    with running(found["epoll"]) as server:
        load = web_load(server.port)
    return compare(program, found, load, asked)


if __name__ == "__main__":
    main()
