"""The programs that are measured: the models that come with evserve, and whatever you bring."""

import ast
import difflib
import os
import re
import sys
from pathlib import Path

from attrs import frozen

from evserve.lab.families import YOURS, family_of, place_of


_CHECKOUT = Path(__file__).parents[2] / "examples"
_INSTALLED = Path(__file__).with_name("io_models")


class ProgramError(ValueError):
    """There is no such program, or none that can be run; the message is one line."""


@frozen
class Model:
    """A program: what it is called, how it is started, and what it says about itself."""

    name: str
    family: str
    path: Path
    text: str  # its docstring

    @property
    def description(self) -> str:
        """The first line of its docstring."""
        return self.text.partition("\n")[0]

    @property
    def words(self) -> list[str]:
        """The command that starts it, without its port."""
        return [str(self.path)] if self.path.suffix != ".py" else [sys.executable, str(self.path)]


def models_folder() -> Path:
    """Return the folder of the models: that of the checkout, or the one the wheel brings."""
    checkout = _CHECKOUT / "io_models"
    return checkout if checkout.is_dir() else _INSTALLED


def find_program(name: str) -> Path | None:
    """Return the path of a program in examples/coroutines, if it is there."""
    candidates = (_CHECKOUT / "coroutines" / name, _INSTALLED / "coroutines" / name)
    return next((path for path in candidates if path.is_file()), None)


def our_models(folder: Path | None = None) -> list[Model]:
    """Return all models that come with evserve, in the order in which they are shown."""
    paths = (folder or models_folder()).glob("[!_]*.py")  # the others are what models share
    found = [model_at(path, path.stem, family_of(path.stem)) for path in paths]
    return sorted(found, key=lambda model: place_of(model.name))


def chosen_models(names: list[str] | None) -> list[Model]:
    """Return the models of those names and paths; all of ours for None. Raises ProgramError."""
    ours = {model.name: model for model in our_models()}
    if names is None:
        return list(ours.values())
    found: dict[str, Model] = {}
    for name in dict.fromkeys(names):
        model = ours[name] if name in ours else _your_program(name, ours)
        if model.name in found or (model.name in ours and model.path != ours[model.name].path):
            model = model_at(model.path, name, model.family)
        found[model.name] = model
    return list(found.values())


def _your_program(name: str, ours: dict[str, Model]) -> Model:
    path = Path(name)
    if "/" not in name and path.suffix != ".py":
        near = difflib.get_close_matches(name, ours, n=1) or [n for n in ours if name in n]
        hint = f"; did you mean {near[0]!r}?" if near else " (--list shows them)"
        raise ProgramError(f"no model named {name!r}{hint}")
    if not path.is_file():
        raise ProgramError(f"no file {name!r}")
    if path.suffix != ".py" and not os.access(path, os.X_OK):
        raise ProgramError(f"{name!r} is neither a .py file nor executable")
    return model_at(path.absolute(), path.stem, YOURS)


def model_at(path: Path, name: str, family: str) -> Model:
    """Return the model of a program; one that is no readable Python has nothing to say."""
    try:
        text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError):
        text = ""
    return Model(re.sub(r"\s+", " ", name), family, path, text)
