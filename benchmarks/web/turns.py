"""Servers of HTTP that take turns: what `benchmarks.web` and `benchmarks.asgi` have in common.

Every server runs on one core and a client in C on another. The servers take short turns in many
rounds, and the ratios are medians of ratios within rounds: absolute figures drift with the
machine. `--instructions` counts instructions, which do not drift, and leaves out the kernel.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

from attrs import evolve

from benchmarks.goals import Goal, verdict
from benchmarks.reactor.measure import (
    Load,
    Result,
    Server,
    compile_c,
    count_instructions,
    measure,
    missing_callgrind_tools,
    start_server,
    table,
)


LOGGED: Final = " with access log"
"""Ends the name of a scenario whose servers write a log."""

Measured: TypeAlias = dict[str, dict[str, list[Result]]]
"""By the names of scenarios and systems."""

Commands: TypeAlias = Callable[[Path, bool], dict[str, list[str]]]
"""Returns the command lines of systems.

It gets an empty folder for their files, and whether each is to write an access log to NAME.log in
it.
"""

Probes: TypeAlias = Mapping[str, Mapping[str, Callable[[Server], Load]]]
"""By the names of scenarios and systems: a function that asks a server once, and checks it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `run` reads."""
    parser.add_argument("--log", choices=("off", "on", "both"), default="both", help="access logs")
    parser.add_argument("--seconds", type=float, default=0.2, help="seconds for each measurement")
    parser.add_argument("--rounds", type=int, default=10, help="rounds to take medians of")
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions, not CPU time (needs valgrind)",
    )


def run(
    commands: Commands, probes: Probes, goals: Sequence[Goal], options: argparse.Namespace
) -> None:
    """Measure all scenarios, with or without access logs; print tables and goals."""
    if options.instructions and (missing := missing_callgrind_tools()):
        sys.exit(f"--instructions needs {' and '.join(missing)}: install valgrind")
    measured: Measured = {}
    for is_logged in {"off": (False,), "on": (True,), "both": (False, True)}[options.log]:
        with tempfile.TemporaryDirectory(prefix="evserve-bench-") as folder:
            found = _run(Path(folder), commands, probes, options, is_logged=is_logged)
        for name, each in found.items():
            title = f"{name}{LOGGED if is_logged else ''}"
            print(f"{title}:\n{table(each, next(iter(each)))}", flush=True)
            measured[title] = each
    if not options.instructions:
        print("\n".join(verdict(goal, measured) for goal in goals))


def _run(
    folder: Path,
    commands: Commands,
    probes: Probes,
    options: argparse.Namespace,
    *,
    is_logged: bool,
) -> Measured:
    """Start the servers and measure them all."""
    program = compile_c("load", str(folder))
    if program is None:
        sys.exit("the load client is a C program: install a C compiler (cc)")
    lines = commands(folder, is_logged)
    if options.instructions:
        print("with access log:" if is_logged else "without access log:")
        _count(program, lines, probes, options.seconds)
        return {}
    results = _take_turns(program, lines, probes, options)
    for log in folder.glob("*.log"):
        if not log.stat().st_size:
            sys.exit(f"{log.stem}: no access log was written")
    return {name: each for name, each in results.items() if each}


def _take_turns(
    program: str, commands: dict[str, list[str]], probes: Probes, options: argparse.Namespace
) -> Measured:
    """Let the servers answer in turns, all the scenarios in each round."""
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(start_server(each)) for name, each in commands.items()
        }
        loads = {
            (scenario, name): probe(running[name])
            for scenario, systems in probes.items()
            for name, probe in systems.items()
        }
        results: Measured = {scenario: {} for scenario in probes}
        for turn in range(1 + options.rounds):
            for (scenario, name), load in loads.items():
                result = measure(program, running[name], load, options.seconds)
                if turn > 0:  # the first is a warm-up
                    results[scenario].setdefault(name, []).append(result)
    return results


def _count(program: str, commands: dict[str, list[str]], probes: Probes, seconds: float) -> None:
    """Print the instructions per answer, outside the kernel."""
    for scenario, systems in probes.items():
        print(f"{scenario}:", flush=True)
        for name, probe in systems.items():
            with start_server(commands[name]) as server:
                load = probe(server)
            # Few connections: closing those of the warm-up may be counted.
            load = evolve(load, connections=min(load.connections, 10))
            each, answers = count_instructions(program, commands[name], load, seconds)
            print(f"  {name:18} {each:9.0f} instructions ({answers} answers)", flush=True)
