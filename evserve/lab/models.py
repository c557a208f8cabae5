"""The models that are measured: the programs that come with evserve, and the user's own."""

import ast
import difflib
import os
import re
import sys
from pathlib import Path

from attrs import frozen


_CHECKOUT = Path(__file__).parents[2] / "examples"
_INSTALLED = Path(__file__).with_name("io_models")  # the wheel's copy, see pyproject.toml


class ModelError(ValueError):
    """There is no such program, or it cannot be run; the message is one line."""


@frozen
class Family:
    """Models that wait for input in a similar way; `key` is in the JSON, `name` on the page."""

    key: str
    name: str
    members: tuple[str, ...]


# In the order of the page. A new model in examples/io_models is added to its family here.
FAMILIES = (
    Family(
        "blocking",
        "Blocking calls",
        ("blocking", "fork_per_connection", "thread_per_connection", "thread_pool"),
    ),
    Family(
        "scanning", "Scanning all connections", ("nonblocking_polling", "select_loop", "poll_loop")
    ),
    Family(
        "told",
        "Notified of readiness or completion",
        ("epoll_level", "epoll_edge", "selectors_loop", "signal_driven", "io_uring_completion"),
    ),
    Family(
        "coroutines",
        "Generators and greenlets",
        ("generator_scheduler", "greenlet_loop", "gevent_patched", "gevent_unpatched"),
    ),
    Family(
        "frameworks",
        "Frameworks",
        ("asyncio_streams", "asyncio_protocol", "twisted_epoll", "evserve_uvloop"),
    ),
    Family("yours", "Your own", ()),
)
_YOURS = FAMILIES[-1].key
_FAMILY_OF = {name: family.key for family in FAMILIES for name in family.members}
_POSITION = {name: number for number, name in enumerate(_FAMILY_OF)}


@frozen
class Model:
    """A program to measure."""

    name: str
    family: str
    path: Path
    text: str  # its docstring

    @property
    def description(self) -> str:
        """The first line of the docstring."""
        return self.text.partition("\n")[0]

    @property
    def command(self) -> list[str]:
        """The command that starts it, without the port."""
        return [str(self.path)] if self.path.suffix != ".py" else [sys.executable, str(self.path)]


def bundled_models() -> list[Model]:
    """Return the models that come with evserve, in the order of the page."""
    checkout = _CHECKOUT / "io_models"
    folder = checkout if checkout.is_dir() else _INSTALLED
    paths = folder.glob("[!_]*.py")  # _common.py is shared by the models
    found = [read_model(path, path.stem, _FAMILY_OF.get(path.stem, _YOURS)) for path in paths]
    return sorted(found, key=lambda model: (_POSITION.get(model.name, len(_POSITION)), model.name))


def bundled_coroutine(name: str) -> Path | None:
    """Return the path of a program in examples/coroutines, None if it is missing."""
    candidates = (_CHECKOUT / "coroutines" / name, _INSTALLED / "coroutines" / name)
    return next((path for path in candidates if path.is_file()), None)


def select_models(names: list[str] | None) -> list[Model]:
    """Return the models with the given names or paths, all bundled ones for None.

    Raises ModelError.
    """
    bundled = {model.name: model for model in bundled_models()}
    if names is None:
        return list(bundled.values())
    found: dict[str, Model] = {}
    for name in dict.fromkeys(names):
        model = bundled[name] if name in bundled else _user_model(name, bundled)
        clashes = model.name in bundled and model.path != bundled[model.name].path
        if model.name in found or clashes:
            model = read_model(model.path, name, model.family)
        found[model.name] = model
    return list(found.values())


def _user_model(name: str, bundled: dict[str, Model]) -> Model:
    path = Path(name)
    if "/" not in name and path.suffix != ".py":
        near = difflib.get_close_matches(name, bundled, n=1) or [n for n in bundled if name in n]
        hint = f"; did you mean {near[0]!r}?" if near else " (--list shows them)"
        raise ModelError(f"no model named {name!r}{hint}")
    if not path.is_file():
        raise ModelError(f"no file {name!r}")
    if path.suffix != ".py" and not os.access(path, os.X_OK):
        raise ModelError(f"{name!r} is neither a .py file nor executable")
    return read_model(path.absolute(), path.stem, _YOURS)


def read_model(path: Path, name: str, family: str) -> Model:
    """Return the model at `path`; its text is empty if the file is not readable Python."""
    try:
        text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError):
        text = ""
    return Model(re.sub(r"\s+", " ", name), family, path, text)
