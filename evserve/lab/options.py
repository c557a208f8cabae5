"""The options of `lab`."""

import errno
import os
from itertools import combinations
from pathlib import Path

from twisted.python import usage
from typing_extensions import override

from evserve.lab.measurement import DEFAULT_COUNTS, DEFAULT_SECONDS
from evserve.lab.models import Model, ModelError, select_models
from evserve.options import integer_between, seconds_up_to


_MAX_CONNECTIONS = 1_000_000  # more than the generator's source addresses can serve
_MAX_SECONDS = 600  # per model and number of connections

_count = integer_between(1, _MAX_CONNECTIONS)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError("not a comma-separated list of names")
    return names


def _counts(text: str) -> tuple[int, ...]:
    """Return the numbers in increasing order, each once."""
    try:
        return tuple(sorted({_count(word) for word in text.replace(" ", "").split(",")}))
    except ValueError as error:
        limits = f"1 to {_MAX_CONNECTIONS}, such as 1,100,1000"
        raise ValueError(f"not numbers of connections ({limits})") from error


class Options(usage.Options):
    """What to measure, and where the report goes."""

    longdesc = (
        "Runs each I/O model in a process of its own under the same load: ten connections are "
        "active, the others are idle. Writes a page with charts, the figures as JSON, and whether "
        "claims that tutorials make about the models hold. A program of your own can be measured "
        "if it prints 'NAME: listening on 127.0.0.1:PORT' and answers in capitals."
    )
    optParameters = [
        ["models", None, None, "Model names and paths of programs [default: all]", _names],
        [
            "connections",
            None,
            None,
            f"Numbers of connections [default: {','.join(map(str, DEFAULT_COUNTS))}]",
            _counts,
        ],
        [
            "seconds",
            None,
            DEFAULT_SECONDS,
            "Seconds per measurement",
            seconds_up_to(_MAX_SECONDS, positive=True),
        ],
        ["report", None, None, "Write the page to this file [default: lab.html]"],
        ["json", None, None, "Write JSON to this file [default: beside the page]; - is stdout"],
        ["from", None, None, "Measure nothing, draw the page of this JSON file"],
    ]
    optFlags = [
        ["list", None, "List the models, and whether they can run here"],
        ["no-claims", None, "Leave out the experiments on the claims"],
    ]

    @override
    def postOptions(self) -> None:
        self.models: list[Model] = []
        self._check_files()
        if self["from"] is not None:
            for name in ("models", "list", "no-claims"):
                if self[name]:
                    raise usage.UsageError(f"--from measures nothing: leave out --{name}")
            return
        try:
            self.models = select_models(self["models"])
        except ModelError as error:
            raise usage.UsageError(f"--models: {error}") from error

    def _check_files(self) -> None:
        for name in ("report", "json", "from"):
            if self[name] == "" or "\0" in (self[name] or ""):
                raise usage.UsageError(f"--{name} {self[name]!r}: not a file name")
        if self["report"] == "-":
            raise usage.UsageError("--report -: the page needs a file (--json - writes JSON)")
        source = None if self["from"] is None else Path(self["from"])
        files = (("report", self.report), ("json", self.json), ("from", source))
        given = [(name, path) for name, path in files if path is not None]
        for (name, path), (other, other_path) in combinations(given, 2):
            if _is_same(path, other_path):
                raise usage.UsageError(f"--{name} and --{other} are the same file: {path}")

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of connections."""
        return DEFAULT_COUNTS if self["connections"] is None else tuple(self["connections"])

    @property
    def report(self) -> Path:
        """The file of the page."""
        return Path("lab.html" if self["report"] is None else self["report"])

    @property
    def json(self) -> Path | None:
        """The file of the JSON; None for standard output, and by default with --from."""
        if self["json"] == "-":
            return None
        if self["json"] is not None:
            return Path(self["json"])
        return None if self["from"] is not None else self.report.with_suffix(".json")


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them does not exist; both may name the same new file
        return os.path.realpath(path) == os.path.realpath(other)


def check_writable(path: Path) -> None:
    """Raise OSError if the file cannot be written, so that a mistake shows before the run."""
    if path.exists() and not path.is_dir():
        if not os.access(path, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    else:
        # Permissions are not enough: /proc, for example, refuses new files in spite of them.
        os.close(os.open(str(path), os.O_WRONLY | os.O_CREAT))
        path.resolve().unlink(missing_ok=True)  # a link itself stays
