"""`python -m benchmarks.asgi [--scenario NAME...] [--systems NAME...] [--rounds N] [--seconds S]`.

How it is measured: benchmarks.web.turns.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.asgi.scenarios import GOALS, NEEDS, PROBES, SYSTEMS
from benchmarks.web import turns


def main() -> None:
    """Measure what the command line names; print tables and goals."""
    missing = [each for each in NEEDS if not find_spec(each)]
    if missing:
        sys.exit(f"needs {' and '.join(missing)} (pip install -e '.[asgi,bench]')")
    parser = argparse.ArgumentParser("python -m benchmarks.asgi", description=__doc__)
    parser.add_argument("--scenario", nargs="+", choices=PROBES, default=list(PROBES))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    turns.add_options(parser)
    options = parser.parse_args()
    probes = {each: dict.fromkeys(options.systems, PROBES[each]) for each in options.scenario}

    def commands(folder: Path, is_logged: bool) -> dict[str, list[str]]:
        start = [sys.executable, "-m", "benchmarks.asgi.serve"]
        return {
            name: [*start, name, *[f"{folder}/{name}.log"] * is_logged] for name in options.systems
        }

    turns.run(commands, probes, GOALS, options)


if __name__ == "__main__":
    main()
