"""The result as JSON, and back again: a file that is not one is refused in one line."""

import json
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from evserve.lab.results import VERSION, Result


class NotAResultError(ValueError):
    """The text is no result of the lab; the message says where it stops being one."""


def as_json(result: Result) -> str:
    """Return the result as JSON."""
    return json.dumps(attrs.asdict(result), indent=1, allow_nan=False) + "\n"


def from_json(text: str) -> Result:
    """Return the result that `as_json` wrote; raises NotAResultError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAResultError(f"not JSON: {error}") from error
    if not isinstance(value, dict) or "models" not in value:
        raise NotAResultError("not a result of the lab")
    if value.get("version") != VERSION:
        raise NotAResultError(f"version {value.get('version')!r}; this evserve reads {VERSION}")
    result: Result = _read(Result, value, "")
    return result


def _read(kind: Any, value: Any, where: str) -> Any:
    """Return `value` as what the annotation `kind` says; `where` names the place in the file."""
    if attrs.has(kind):
        return _read_object(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        if value is None:
            return None
        return _read(next(each for each in arguments if each is not NoneType), value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], each, f"{where}[{n}]") for n, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _read(arguments[1], each, f"{where}.{key}") for key, each in value.items()}
    if origin is None:
        return _read_plain(kind, value, where)
    raise _misfit(kind, value, where)


def _read_object(kind: Any, value: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(value, dict):
        raise _misfit(kind, value, where)
    missing = [each.name for each in attrs.fields(kind) if each.name not in value]
    if missing:
        raise NotAResultError(f"{where or 'the file'} has no {missing[0]!r}")
    names = [each.name for each in attrs.fields(kind)]
    inside = f"{where}." if where else ""
    return kind(**{name: _read(hints[name], value[name], f"{inside}{name}") for name in names})


def _read_plain(kind: Any, value: Any, where: str) -> Any:
    if issubclass(kind, Enum):
        if value in list(kind):
            return kind(value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif type(value) is kind:
        return value
    raise _misfit(kind, value, where)


def _misfit(kind: Any, value: Any, where: str) -> NotAResultError:
    wanted = getattr(kind, "__name__", str(kind)).lower().replace("tuple", "list")
    return NotAResultError(f"{where}: expected {wanted}, not {str(value)[:40]!r}")
