"""`python -m benchmarks.reactor [--seconds S] [--rounds N] [--only SCENARIO,...]`.

The servers take short turns in many rounds, and the result is the median of the ratios within
rounds: absolute figures drift with the machine. `--instructions` counts instructions, which do
not drift.
"""

import argparse
import resource
import sys
import tempfile
from contextlib import ExitStack

from benchmarks.reactor import servers
from benchmarks.reactor.measure import (
    Load,
    Result,
    compile_c,
    connect_client,
    count_instructions,
    measure,
    missing_callgrind_tools,
    start_server,
    table,
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


def compare(
    program: str, peers: dict[str, list[str]], load: Load, asked: argparse.Namespace
) -> str:
    """Return a table: CPU per answer, answers per second, and the ratio to the reference."""
    if asked.instructions:
        return compare_instructions(program, peers, load, asked.seconds)
    results: dict[str, list[Result]] = {name: [] for name in peers}
    with ExitStack() as stack:
        running = {name: stack.enter_context(start_server(each)) for name, each in peers.items()}
        for turn in range(1 + asked.rounds):
            for name, server in running.items():
                result = measure(program, server, load, asked.seconds)
                if turn > 0:  # the first is a warm-up
                    results[name].append(result)
    return table(results, REFERENCE if REFERENCE in peers else next(iter(peers)))


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
    everything = [*ECHOES, PIECES, ACCEPTS, MEMORY]
    for name in asked.only.split(",") if asked.only else everything:
        print(f"{name}:", flush=True)
        if name == MEMORY:
            print(memory(program, echoes), flush=True)
        elif name == PIECES:
            load = Load(100, b"x" * 100, 100 * servers.PIECES)
            print(compare(program, servers.twisted(), load, asked), flush=True)
        else:
            load = Load(20, b"x", 1, 0) if name == ACCEPTS else ECHOES[name]
            print(compare(program, echoes, load, asked), flush=True)


if __name__ == "__main__":
    main()
