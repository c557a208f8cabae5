"""What can be asked at the console, and the answers: text, each line ended."""

from collections.abc import Callable

from attrs import frozen


@frozen
class Peer:
    """A connected client: its name and for how many seconds it has been there."""

    name: str
    age: float


@frozen
class Snapshot:
    """How the server is: seconds since its start, clients ever and clients now."""

    uptime: float
    opened: int
    peers: tuple[Peer, ...]


def _status(now: Snapshot) -> str:
    return (
        f"up {now.uptime:.0f} s, {len(now.peers)} connected, "
        f"{now.opened} connections since the start\n"
    )


def _connections(now: Snapshot) -> str:
    lines = [f"{peer.name} for {peer.age:.0f} s\n" for peer in now.peers]
    return "".join(lines) or "no connections\n"


_QUESTIONS: dict[str, Callable[[Snapshot], str]] = {
    "status": _status,
    "connections": _connections,
}


def answer(command: str, now: Snapshot) -> str:
    """Return the answer to `command`; `quit` is an act, not a question, and is done elsewhere."""
    if command in _QUESTIONS:
        return _QUESTIONS[command](now)
    known = ", ".join([*_QUESTIONS, "quit", "help"])
    return f"{known}\n" if command == "help" else f"unknown command {command!r}; known: {known}\n"
