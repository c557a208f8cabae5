"""Measure clients side by side, each in its own process, with the servers on another core."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.http import report, servers
from benchmarks.http.client import CLIENTS, is_installed
from benchmarks.http.job import Job, Outcome
from benchmarks.http.scenarios import SCENARIOS, Scenario


def main() -> None:
    """Run the scenarios that the command line names, and print each result."""
    options = _options()
    cores = sorted(os.sched_getaffinity(0))
    apart = (cores[-1], cores[0]) if len(cores) > 1 else (None, None)
    clients = [name for name in options.clients if is_installed(name)]
    for name in set(options.clients) - set(clients):
        print(f"{name}: not installed here, left out", file=sys.stderr)
    for scenario in SCENARIOS:
        if options.scenario and scenario.name not in options.scenario:
            continue
        # For a single body, a client may use all cores.
        server_core, client_core = (None, None) if scenario.requests == 1 else apart
        with servers.run_servers(server_core) as running:
            job = scenario.job(running, options.scale)
            rows = _measure(scenario, job, clients, options.runs, client_core)
            print(report.table(scenario, job, rows), flush=True)


def _measure(
    scenario: Scenario, job: Job, clients: list[str], runs: int, core: int | None
) -> dict[str, list[report.Row]]:
    """Let the clients take turns, so that a slow moment of the machine hits all of them."""
    clients = [name for name in clients if name not in scenario.without]
    rows: dict[str, list[report.Row]] = {name: [] for name in clients}
    for _ in range(runs):
        for name in clients:
            rows[name].append(report.Row.of(job, _run(name, job, core)))
            _remove(job.save)
    return rows


def _run(name: str, job: Job, core: int | None) -> Outcome:
    done = subprocess.run(  # noqa: S603 # our own module
        [sys.executable, "-m", "benchmarks.http.client", name],
        input=job.to_json(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: servers.pin_to_core(core),  # no threads here
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return Outcome.from_json(done.stdout)


def _remove(save: str) -> None:
    """Remove what a client saved: some file systems write a replaced file at once."""
    if save:
        Path(save).unlink(missing_ok=True)
        shutil.rmtree(f"{save}.d", ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.http", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs per client; medians are shown")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor for the number of requests"
    )
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", nargs="+", choices=names, help="scenarios to run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
