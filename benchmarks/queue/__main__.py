"""The command line of all the queue benchmarks."""

import signal
import sys
from importlib import import_module


TABLES = ("beanstalkd", "engines", "postgres", "scaling", "simulation")


def main() -> None:
    """Make the table that the first word names, by default the one beside beanstalkd."""
    # As Ctrl-C, or the servers would stay.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    words = sys.argv[1:]
    name = words.pop(0) if words and words[0] in TABLES else "beanstalkd"
    import_module(f"benchmarks.queue.{name}").main(words)


if __name__ == "__main__":
    main()
