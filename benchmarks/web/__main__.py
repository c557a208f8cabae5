"""`python -m benchmarks.web [--scenario NAME...] [--systems NAME...] [--rounds N] [--seconds S]`.

Every server runs on one core and a client in C on another. The servers take short turns in many
rounds, and the ratios are medians of ratios within rounds: absolute figures drift with the
machine. `--instructions` counts instructions, which do not drift, and leaves out the kernel.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from attrs import evolve

from benchmarks.goals import verdict
from benchmarks.reactor.measure import (
    Result,
    compile_c,
    count_instructions,
    measure,
    missing_callgrind_tools,
    start_server,
    table,
)
from benchmarks.web.pages import write_files
from benchmarks.web.probe import probe
from benchmarks.web.scenarios import GOALS, LOGGED, SCENARIOS, Scenario
from benchmarks.web.systems import SYSTEMS


Measured = dict[str, dict[str, list[Result]]]
"""By the names of scenarios and systems."""


def main() -> None:
    """Measure what the command line names; print tables and goals."""
    options = _options()
    if options.instructions and (missing := missing_callgrind_tools()):
        sys.exit(f"--instructions needs {' and '.join(missing)}: install valgrind")
    names = [name for name in options.systems if SYSTEMS[name].installed]
    for name in options.systems:
        if name not in names:
            print(f"{name}: not installed")
    scenarios = [each for each in SCENARIOS if each.name in options.scenario]
    if find_spec("klein") is None:
        print("klein: not installed")
        scenarios = [each for each in scenarios if each.name != "klein"]
    measured: Measured = {}
    for is_logged in {"off": (False,), "on": (True,), "both": (False, True)}[options.log]:
        with tempfile.TemporaryDirectory(prefix="evserve-bench-") as folder:
            found = _run(Path(folder), names, scenarios, options, is_logged=is_logged)
        for name, each in found.items():
            title = f"{name}{LOGGED if is_logged else ''}"
            print(f"{title}:\n{table(each, next(iter(each)))}", flush=True)
            measured[title] = each
    if not options.instructions:
        print("\n".join(verdict(goal, measured) for goal in GOALS))


def _run(
    folder: Path,
    names: Sequence[str],
    scenarios: Sequence[Scenario],
    options: argparse.Namespace,
    *,
    is_logged: bool,
) -> Measured:
    """Start the servers and measure them all, with or without access logs."""
    program = compile_c("load", str(folder))
    if program is None:
        sys.exit("the load client is a C program: install a C compiler (cc)")
    commands = _commands(names, folder, is_logged=is_logged)
    if options.instructions:
        print("with access log:" if is_logged else "without access log:")
        _count(program, commands, scenarios, options.seconds)
        return {}
    results = _take_turns(program, commands, scenarios, options)
    for log in folder.glob("*.log"):
        if not log.stat().st_size:
            sys.exit(f"{log.stem}: no access log was written")
    return {name: each for name, each in results.items() if each}


def _commands(names: Sequence[str], folder: Path, *, is_logged: bool) -> dict[str, list[str]]:
    """Return the command lines of the servers."""
    folder.chmod(0o755)  # nginx may be another user
    write_files(folder / "files")
    start = [sys.executable, "-m", "benchmarks.web.serve"]
    return {
        name: [*start, name, str(folder / "files"), *[f"{folder}/{name}.log"] * is_logged]
        for name in names
    }


def _take_turns(
    program: str,
    commands: dict[str, list[str]],
    scenarios: Sequence[Scenario],
    options: argparse.Namespace,
) -> Measured:
    """Let the servers answer in turns, all the scenarios in each round."""
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(start_server(each)) for name, each in commands.items()
        }
        loads = {
            (scenario.name, name): probe(server, scenario)
            for scenario in scenarios
            for name, server in running.items()
            if scenario.path not in SYSTEMS[name].lacks
        }
        results: Measured = {scenario.name: {} for scenario in scenarios}
        for turn in range(1 + options.rounds):
            for (scenario, name), load in loads.items():
                result = measure(program, running[name], load, options.seconds)
                if turn > 0:  # the first is a warm-up
                    results[scenario].setdefault(name, []).append(result)
    return results


def _count(
    program: str,
    commands: dict[str, list[str]],
    scenarios: Sequence[Scenario],
    seconds: float,
) -> None:
    """Print the instructions per answer, outside the kernel."""
    for scenario in scenarios:
        print(f"{scenario.name}:", flush=True)
        for name, command in commands.items():
            if scenario.path not in SYSTEMS[name].lacks:
                with start_server(command) as server:
                    load = probe(server, scenario)
                # Few connections: closing those of the warm-up may be counted.
                load = evolve(load, connections=min(load.connections, 10))
                each, answers = count_instructions(program, command, load, seconds)
                print(f"  {name:18} {each:9.0f} instructions ({answers} answers)", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.web", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", nargs="+", choices=names, default=names)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--log", choices=("off", "on", "both"), default="both", help="access logs")
    parser.add_argument("--seconds", type=float, default=0.2, help="seconds for each measurement")
    parser.add_argument("--rounds", type=int, default=10, help="rounds to take medians of")
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions, not CPU time (needs valgrind)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
