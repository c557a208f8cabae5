"""Finds the application that a user named, such as `main:app`."""

import importlib
import inspect
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from uvicorn import importer
from uvicorn.importer import ImportFromStringError, import_from_string

from evserve.plugin import PluginError, UntrustedError, one_line
from evserve.trust import add_import_folder


Application: TypeAlias = Callable[..., Any]
"""An application of ASGI 3: takes scope, receive and send."""

_MACHINERY = (__file__, importer.__file__, importlib.__file__)  # of imports
_LIBRARIES = tuple(map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")))


def load_application(name: str, *, in_current_folder: bool, is_factory: bool) -> Application:
    """Import `MODULE:ATTRIBUTE`, first from the current folder, and return the application.

    in_current_folder: False to look elsewhere only, which the error says.
    is_factory: it is a function that returns the application. Raises PluginError with the cause
    in one line.
    """
    left_out = " Not looked for in the current folder: --no-cwd-plugins"
    if in_current_folder:
        left_out = _add_current_folder()
    try:
        application = import_from_string(name)
        if is_factory:
            application = application()
    except (KeyboardInterrupt, UntrustedError):
        raise
    except ImportFromStringError as error:
        raise PluginError(f"{error}{left_out}") from error
    except BaseException as error:  # sys.exit included
        raise PluginError(f"{name}: {one_line(error)}{_place(error)}") from error
    _check_arguments(name, application, is_factory=is_factory)
    loaded: Application = application
    return loaded


def _add_current_folder() -> str:
    """Have modules looked for in the current folder; return why that cannot be, if so."""
    try:
        add_import_folder(Path.cwd())
    except UntrustedError as error:
        return f" Not looked for in the current folder: {error}"
    except OSError:  # the current folder was removed, or may not be read
        pass
    return ""


def _place(error: BaseException) -> str:
    """Return where an error was raised: the last line that is not a library's, if there is one."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in _MACHINERY and not frame.filename.startswith("<frozen ")
    ]
    if not frames or isinstance(error, SyntaxError):
        return ""
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    last = (own or frames)[-1]
    return f" ({last.filename}, line {last.lineno})"


def _check_arguments(name: str, application: Any, *, is_factory: bool) -> None:
    """Raise PluginError for what cannot be an application of ASGI 3."""
    if not callable(application):
        raise PluginError(f"{name} is no application: it cannot be called")
    try:
        inspect.signature(application).bind({}, None, None)
    except ValueError:  # of a function in C
        return
    except TypeError:
        hint = "" if is_factory else "; --factory if it returns the application"
        raise PluginError(
            f"{name} is no ASGI 3 application: it does not take scope, receive and send "
            f"(a WSGI application: twistd web --wsgi{hint})"
        ) from None
