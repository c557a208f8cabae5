"""Importing what plugins name: whatever goes wrong is one line, and breaks nothing else."""

import importlib
from types import ModuleType

from attrs import frozen


class PluginError(Exception):
    """A plugin, or a folder of them, cannot be used; the message is the cause in one line."""


def one_line(error: BaseException) -> str:
    """Say in one line what `error` is: its type, its message and, of a SyntaxError, the place."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def import_named(module: str) -> ModuleType:
    """Import `module`, turning whatever it raises, `sys.exit` included, into PluginError."""
    try:
        return importlib.import_module(module)
    except KeyboardInterrupt:  # somebody lost patience
        raise
    except BaseException as error:
        raise PluginError(one_line(error)) from error


@frozen
class Broken:
    """A plugin, or a whole plugin file, that cannot be offered, and why."""

    name: str
    path: str
    cause: str
