"""The options of `lab`."""

import errno
import os
import re
from itertools import combinations
from pathlib import Path

from twisted.python import usage

from evserve.lab.models import Model, ProgramError, chosen_models
from evserve.lab.settings import COUNTS, SECONDS, Measure


_MOST = 1_000_000  # connections: more than the generator's source addresses are good for
_LONGEST = 600.0  # seconds per model and number of connections


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError("not a list of names, with commas between them")
    return words


def _counts(text: str) -> tuple[int, ...]:
    """Return whole numbers of at least 1, each once, in rising order."""
    found = set()
    for word in text.replace(" ", "").split(","):
        if not re.fullmatch(r"\d{1,9}", word, re.ASCII) or not 1 <= int(word) <= _MOST:
            raise ValueError(f"not numbers of connections (1 to {_MOST}, such as 1,100,1000)")
        found.add(int(word))
    return tuple(sorted(found))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _LONGEST:
        raise ValueError(f"not a number of seconds above 0, at most {_LONGEST:g}")
    return value


def _are_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them is not there: would they be made in the same place?
        return os.path.realpath(path) == os.path.realpath(other)


class Options(usage.Options):
    """What to measure, and where the report goes."""

    longdesc = (
        "Runs each I/O model in a process of its own under the same load: ten connections talk, "
        "the others are idle. Writes a page with charts, the same as JSON, and what became of the "
        "claims that are made about the models. A program of yours takes part if it prints "
        "'NAME: listening on 127.0.0.1:PORT' and answers in capitals."
    )
    optParameters = [
        ["models", None, None, "Names, and paths of programs of yours [default: all]", _words],
        [
            "connections",
            None,
            None,
            f"Numbers of connections [default: {','.join(map(str, COUNTS))}]",
            _counts,
        ],
        ["seconds", None, SECONDS, "How long to measure each", _seconds],
        ["report", None, None, "Write the page to this file [default: lab.html]"],
        ["json", None, None, "Write JSON to this file [default: beside the page]; - is stdout"],
        ["from", None, None, "Measure nothing: draw the page of this JSON file"],
    ]
    optFlags = [
        ["list", None, "List the models, and whether they can run here"],
        ["no-claims", None, "Leave out the experiments on the claims"],
    ]

    def postOptions(self) -> None:
        """Refuse what contradicts itself, and models that are not there."""
        self.models: list[Model] = []
        self._check_files()
        if self["from"] is not None:
            for name in ("models", "list", "no-claims"):
                if self[name]:
                    raise usage.UsageError(f"--from measures nothing: leave out --{name}")
            return
        try:
            self.models = chosen_models(self["models"])
        except ProgramError as error:
            raise usage.UsageError(f"--models: {error}") from error

    def _check_files(self) -> None:
        for name in ("report", "json", "from"):
            if self[name] == "" or "\0" in (self[name] or ""):
                raise usage.UsageError(f"--{name} {self[name]!r}: not the name of a file")
        if self["report"] == "-":
            raise usage.UsageError("--report -: the page needs a file; --json - is for the JSON")
        source = None if self["from"] is None else Path(self["from"])
        files = (("report", self.report), ("json", self.json), ("from", source))
        given = [(name, path) for name, path in files if path is not None]
        for (name, path), (other, there) in combinations(given, 2):
            if _are_same(path, there):
                raise usage.UsageError(f"--{name} and --{other} are the same file: {path}")

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of connections."""
        return COUNTS if self["connections"] is None else tuple(self["connections"])

    @property
    def report(self) -> Path:
        """Where the page goes."""
        return Path("lab.html" if self["report"] is None else self["report"])

    @property
    def json(self) -> Path | None:
        """Where the JSON goes; None is standard output, or nowhere with --from."""
        if self["json"] == "-":
            return None
        if self["json"] is not None:
            return Path(self["json"])
        return None if self["from"] is not None else self.report.with_suffix(".json")

    def measure(self, counts: tuple[int, ...]) -> Measure:
        """Return how to measure at those numbers of connections."""
        return Measure(counts, self["seconds"])


def check_writable(path: Path) -> None:
    """Raise OSError if a file cannot be written there: better now than after the run."""
    folder = path.absolute().parent
    number = 0
    if path.is_dir():
        number = errno.EISDIR
    elif not folder.is_dir():
        number = errno.ENOENT
    elif path.exists():
        number = 0 if os.access(path, os.W_OK) else errno.EACCES
    else:
        # What /proc refuses, for one, its permissions don't tell. A link may lead to no file yet.
        os.close(os.open(str(path), os.O_WRONLY | os.O_CREAT))
        path.resolve().unlink(missing_ok=True)
    if number:
        raise OSError(number, os.strerror(number), str(path))
