"""`python -m benchmarks.web [--scenario NAME...] [--systems NAME...] [--rounds N] [--seconds S]`.

How it is measured: benchmarks.web.turns.
"""

import argparse
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.web import turns
from benchmarks.web.pages import write_files
from benchmarks.web.probe import probe
from benchmarks.web.scenarios import GOALS, SCENARIOS
from benchmarks.web.systems import SYSTEMS, installed


def main() -> None:
    """Measure what the command line names; print tables and goals."""
    options = _options()
    names = installed(options.systems)
    scenarios = [each for each in SCENARIOS if each.name in options.scenario]
    if find_spec("klein") is None:
        print("klein: not installed")
        scenarios = [each for each in scenarios if each.name != "klein"]
    probes = {
        each.name: {
            name: partial(probe, scenario=each)
            for name in names
            if each.path not in SYSTEMS[name].lacks
        }
        for each in scenarios
    }

    def commands(folder: Path, is_logged: bool) -> dict[str, list[str]]:
        folder.chmod(0o755)  # nginx may be another user
        write_files(folder / "files")
        start = [sys.executable, "-m", "benchmarks.web.serve"]
        return {
            name: [*start, name, str(folder / "files"), *[f"{folder}/{name}.log"] * is_logged]
            for name in names
        }

    turns.run(commands, probes, GOALS, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.web", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", nargs="+", choices=names, default=names)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    turns.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
