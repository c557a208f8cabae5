"""`python -m benchmarks.reactor [--seconds S] [--rounds N] [--only SCENARIO,...]`.

The servers take turns in every round, and the result is the median of the ratios within rounds:
absolute figures drift with the machine. `--instructions` counts instructions, which do not drift.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.reactor.measure import (
    Load,
    Result,
    compile_c,
    connect_client,
    count_instructions,
    missing_callgrind_tools,
    start_server,
)
from benchmarks.reactor.servers import echo_servers, web


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
    with start_server(command) as server:
        with connect_client(program, server, load, min(seconds, 0.3)) as client:
            client.work(server)
        with connect_client(program, server, load, seconds) as client:
            return client.work(server)


def compare(
    program: str, servers: dict[str, list[str]], load: Load, asked: argparse.Namespace
) -> str:
    """Return a table: CPU per answer, answers per second, and the ratio to the reference."""
    if asked.instructions:
        return compare_instructions(program, servers, load, asked.seconds)
    rounds = [
        {name: measure(program, each, load, asked.seconds) for name, each in servers.items()}
        for _ in range(asked.rounds)
    ]
    reference = REFERENCE if REFERENCE in servers else next(iter(servers))
    lines = []
    for name in servers:
        cost = median(each[name].cost for each in rounds)
        rate = median(each[name].answers / each[name].seconds for each in rounds)
        ratio = median(each[name].cost / each[reference].cost for each in rounds)
        lines.append(f"  {name:18} {cost:9.2f} us {rate:10.0f} /s {ratio:8.2f}x")
    return "\n".join(lines)


def compare_instructions(
    program: str, servers: dict[str, list[str]], load: Load, seconds: float
) -> str:
    """Return a table: instructions per answer, outside the kernel, and the number of answers."""
    lines = []
    for name, command in servers.items():
        each, answers = count_instructions(program, command, load, seconds)
        lines.append(f"  {name:18} {each:9.0f} instructions ({answers} answers)")
    return "\n".join(lines)


def memory(program: str, servers: dict[str, list[str]]) -> str:
    """Return a table: resident bytes per idle connection."""
    lines = []
    for name, command in servers.items():
        with start_server(command) as server:
            with connect_client(program, server, Load(100, b"x", 1), 0.2) as client:
                client.work(server)
            before = server.memory
            with connect_client(program, server, Load(IDLE, b"x", 1), 0) as client:
                client.work(server)
                lines.append(f"  {name:18} {(server.memory - before) / IDLE:9.0f} B")
    return "\n".join(lines)


def web_load(port: int) -> Load:
    """Return a keep-alive client's load; one request finds the length of the answer."""
    import socket

    request = b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as probe:
        probe.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < 1024:  # noqa: PLR2004  # the file's size
            answer += probe.recv(65536)
    return Load(100, request, len(answer))


def main() -> None:
    """Measure the scenarios and print each table as it is ready."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reactor")
    parser.add_argument("--seconds", type=float, default=1.5, help="seconds for each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take medians of")
    parser.add_argument("--only", help="scenarios, separated by commas")
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions, not CPU time (needs valgrind)",
    )
    asked = parser.parse_args()
    if asked.instructions and (missing := missing_callgrind_tools()):
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
    servers = echo_servers(compile_c("echo", folder))
    wanted = asked.only.split(",") if asked.only else [*ECHOES, ACCEPTS, MEMORY, WEB]
    for name in wanted:
        print(f"{name}:", flush=True)
        if name == MEMORY:
            print(memory(program, servers), flush=True)
        elif name == WEB:
            print(compare_web(program, folder, asked), flush=True)
        else:
            load = Load(20, b"x", 1, 0) if name == ACCEPTS else ECHOES[name]
            print(compare(program, servers, load, asked), flush=True)


def compare_web(program: str, folder: str, asked: argparse.Namespace) -> str:
    """Return a table for Twisted's web server, which serves a file of 1 KiB."""
    site = Path(folder, "site")
    site.mkdir(exist_ok=True)
    (site / "file").write_bytes(b"x" * 1024)
    servers = {name: web(name, str(site)) for name in ("epoll", "uvloop")}
    with start_server(servers["epoll"]) as server:
        load = web_load(server.port)
    return compare(program, servers, load, asked)


if __name__ == "__main__":
    main()
