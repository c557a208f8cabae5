"""`python -m benchmarks.reactor [--seconds S] [--rounds N] [--only SCENARIO,...]`.

The servers take short turns in many rounds, and the result is the median of the ratios within
rounds: absolute figures drift with the machine. `--instructions` counts instructions, which do
not drift.
"""

import argparse
import re
import resource
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.reactor import servers
from benchmarks.reactor.measure import (
    Load,
    Result,
    Server,
    compile_c,
    connect_client,
    count_instructions,
    missing_callgrind_tools,
    start_server,
)


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
PIECES = f"{servers.PIECES} small writes"
HELLO = "twisted.web hello"
WEB = "twisted.web"


def measure(program: str, server: Server, load: Load, seconds: float) -> Result:
    """Put one load on one server."""
    with connect_client(program, server, load, seconds) as client:
        return client.work(server)


def compare(
    program: str, peers: dict[str, list[str]], load: Load, asked: argparse.Namespace
) -> str:
    """Return a table: CPU per answer, answers per second, and the ratio to the reference."""
    if asked.instructions:
        return compare_instructions(program, peers, load, asked.seconds)
    with ExitStack() as stack:
        running = {name: stack.enter_context(start_server(each)) for name, each in peers.items()}
        rounds = [
            {name: measure(program, each, load, asked.seconds) for name, each in running.items()}
            for _ in range(1 + asked.rounds)
        ][1:]  # the first is a warm-up
    reference = REFERENCE if REFERENCE in peers else next(iter(peers))
    lines = []
    for name in peers:
        cost = median(each[name].cost for each in rounds)
        rate = median(each[name].answers / each[name].seconds for each in rounds)
        ratio = median(each[name].cost / each[reference].cost for each in rounds)
        lines.append(f"  {name:18} {cost:9.2f} us {rate:10.0f} /s {ratio:8.2f}x")
    return "\n".join(lines)


def compare_instructions(
    program: str, peers: dict[str, list[str]], load: Load, seconds: float
) -> str:
    """Return a table: instructions per answer, outside the kernel, and the number of answers."""
    lines = []
    for name, command in peers.items():
        each, answers = count_instructions(program, command, load, seconds)
        lines.append(f"  {name:18} {each:9.0f} instructions ({answers} answers)")
    return "\n".join(lines)


def memory(program: str, peers: dict[str, list[str]]) -> str:
    """Return a table: resident bytes per idle connection."""
    lines = []
    for name, command in peers.items():
        with start_server(command) as server:
            with connect_client(program, server, Load(100, b"x", 1), 0.2) as client:
                client.work(server)
            before = server.memory
            with connect_client(program, server, Load(IDLE, b"x", 1), 0) as client:
                client.work(server)
                lines.append(f"  {name:18} {(server.memory - before) / IDLE:9.0f} B")
    return "\n".join(lines)


def web_load(command: list[str]) -> Load:
    """Return a keep-alive client's load; one request finds the length of the answer."""
    request = b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        start_server(command) as server,
        socket.create_connection(("127.0.0.1", server.port)) as probe,
    ):
        probe.sendall(request)
        answer = b""
        while not (length := re.search(rb"(?i)content-length: (\d+)(?s:.*?)\r\n\r\n", answer)):
            answer += probe.recv(65536)
    return Load(100, request, length.end() + int(length[1]))


def main() -> None:
    """Measure the scenarios and print each table as it is ready."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reactor")
    parser.add_argument("--seconds", type=float, default=0.2, help="seconds for each measurement")
    parser.add_argument("--rounds", type=int, default=20, help="rounds to take medians of")
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
    echoes = servers.echo_servers(compile_c("echo", folder))
    everything = [*ECHOES, PIECES, ACCEPTS, MEMORY, HELLO, WEB]
    for name in asked.only.split(",") if asked.only else everything:
        print(f"{name}:", flush=True)
        if name == MEMORY:
            print(memory(program, echoes), flush=True)
        elif name == PIECES:
            load = Load(100, b"x" * 100, 100 * servers.PIECES)
            print(compare(program, servers.twisted("pieces"), load, asked), flush=True)
        elif name in (HELLO, WEB):
            peers = servers.twisted("hello") if name == HELLO else file_servers(folder)
            print(compare(program, peers, web_load(peers["epoll"]), asked), flush=True)
        else:
            load = Load(20, b"x", 1, 0) if name == ACCEPTS else ECHOES[name]
            print(compare(program, echoes, load, asked), flush=True)


def file_servers(folder: str) -> dict[str, list[str]]:
    """Return `twistd web` on two reactors, for a file of 1 KiB."""
    site = Path(folder, "site")
    site.mkdir(exist_ok=True)
    (site / "file").write_bytes(b"x" * 1024)
    return {name: servers.web(name, str(site)) for name in ("epoll", "uvloop")}


if __name__ == "__main__":
    main()
