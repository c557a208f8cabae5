"""The servers to compare."""

import shutil
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Final

from attrs import frozen


_FILES: Final = frozenset({"/files/1k.txt", "/files/64k.txt"})
_TWISTED_ONLY: Final = frozenset({"/klein/", "/wsgi"})


@frozen
class System:
    """A server to measure.

    module: of this package, with `serve(*words, folder=..., log=...)`.  needs: modules.
    program: what it runs beside Python.  lacks: the paths that it does not serve.
    """

    module: str
    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    program: str | None = None
    lacks: frozenset[str] = _TWISTED_ONLY

    @property
    def installed(self) -> bool:
        """Whether its modules and its program are here."""
        return all(map(_find, self.needs)) and (
            self.program is None or find_program(self.program) is not None
        )


def _find(module: str) -> bool:
    return find_spec(module) is not None


def find_program(name: str) -> str | None:
    """Return the path of a program; Debian keeps some where users do not look."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def _twisted(kind: str, reactor: str) -> System:
    needs = ("uvloop",) if reactor == "uvloop" else ()
    return System("with_twisted", (kind, reactor), needs, lacks=frozenset())


STOCK: Final = "stock, uvloop"
FAST: Final = "fast, uvloop"

SYSTEMS: Final[Mapping[str, System]] = {
    STOCK: _twisted("stock", "uvloop"),
    FAST: _twisted("fast", "uvloop"),
    "fast, own Request": _twisted("fast, own Request", "uvloop"),
    "stock, epoll": _twisted("stock", "epoll"),
    "fast, epoll": _twisted("fast", "epoll"),
    "aiohttp": System("with_aiohttp", needs=("aiohttp", "uvloop")),
    "uvicorn": System(
        "with_uvicorn", ("plain",), ("uvicorn", "uvloop"), lacks=_TWISTED_ONLY | _FILES
    ),
    "starlette": System("with_uvicorn", ("starlette",), ("uvicorn", "uvloop", "starlette")),
    "nginx": System("with_nginx", program="nginx", lacks=_TWISTED_ONLY | {"/length"}),
}


def installed(names: Iterable[str]) -> list[str]:
    """Return those systems that are here, and print which are not."""
    found = []
    for name in names:
        if SYSTEMS[name].installed:
            found.append(name)
        else:
            print(f"{name}: not installed")
    return found
