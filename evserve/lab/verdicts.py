"""What figures say about the claims: each function takes made or measured ones, and judges.

A threshold lies well between what the claim predicts and its opposite, so that noise decides
nothing; between both, a claim does not hold.
"""

from collections.abc import Mapping, Sequence

from evserve.lab.results import Claim, Verdict


SCANNING = "select and poll grow linearly with idle connections, epoll does not"
STALLING = "one blocking client stalls the blocking server"
THREADS = "threads cost memory"
POLLING = "non-blocking polling burns CPU when idle"
UNPATCHED = "gevent without monkey-patching runs serially"
SLEEPING = "fetching three slow pages takes the time of the slowest"

_MICRO, _MILLI = 1e-6, 1e-3

_GROWS = 3.0  # times, from no idle connections to the most: less is no growth to speak of
_FLAT = 2.0
# Slope of the second half over that of the first: 1 on a line, 3 on a parabola, 0.41 on a root.
_STRAIGHT = (0.45, 2.4)
_MORE_MEMORY = 2.0  # times
_BURNS, _RESTS = 0.3, 0.05  # seconds of CPU a second; others may want the CPU as well
_SLOWEST = 1.25  # times the slowest page; one after another it would be the sum


def verdict(holds: bool) -> Verdict:
    """Return what a claim gets that was measured."""
    return Verdict.HOLDS if holds else Verdict.FAILS


def unknown(name: str, claim: str, why: str) -> Claim:
    """Return a claim that could not be measured."""
    return Claim(name, claim, Verdict.UNKNOWN, why)


def scanning(idle: Sequence[int], costs: Mapping[str, Sequence[float]]) -> Claim:
    """Judge CPU seconds per message at three evenly rising numbers of `idle` connections.

    costs: of "select_loop", "poll_loop" and "epoll_level".
    """
    growth = {name: each[-1] / each[0] for name, each in costs.items()}
    scanners = ("select_loop", "poll_loop")
    bent = [name for name in scanners if not _is_straight(costs[name])]
    scan = not bent and all(growth[name] >= _GROWS for name in scanners)
    parts = [
        f"{name} {first / _MICRO:,.1f} → {last / _MICRO:,.1f} µs ({growth[name]:,.1f} times)"
        for name, (first, *_, last) in costs.items()
    ]
    evidence = (
        f"CPU per message with {idle[0]:,} → {idle[-1]:,} idle connections: {', '.join(parts)}."
    )
    if bent:
        evidence += f" Not along a straight line: {', '.join(bent)}."
    numbers = {
        f"{name}_cpu_seconds_per_message_{count}_idle": cost
        for name, each in costs.items()
        for count, cost in zip(idle, each, strict=True)
    }
    holds = scan and growth["epoll_level"] <= _FLAT
    return Claim("scanning", SCANNING, verdict(holds), evidence, numbers)


def _is_straight(costs: Sequence[float]) -> bool:
    first, middle, last = costs
    least, most = _STRAIGHT
    return middle > first and least <= (last - middle) / (middle - first) <= most


def stalling(waited: Mapping[str, float | None], patience: float) -> Claim:
    """Judge how long a second client waited while the first said nothing.

    waited: seconds of "blocking" and "epoll_level"; None: no answer in `patience` seconds, and
    one as soon as the first client had left. Whoever is not answered even then has no figure.
    """
    return _serial("stalling", STALLING, waited, ("blocking", "epoll_level"), patience)


def unpatched(waited: Mapping[str, float | None], patience: float) -> Claim:
    """Judge the same of "gevent_unpatched" and "gevent_patched"."""
    names = ("gevent_unpatched", "gevent_patched")
    return _serial("unpatched", UNPATCHED, waited, names, patience)


def _serial(
    name: str,
    claim: str,
    waited: Mapping[str, float | None],
    pair: tuple[str, str],
    patience: float,
) -> Claim:
    serial, concurrent = pair
    evidence = "A client connects and says nothing, a second one asks: " + "; ".join(
        f"{each} {_waiting(waited[each], patience)}" for each in pair
    )
    numbers = {
        f"{each}_answer_seconds": seconds for each in pair if (seconds := waited[each]) is not None
    }
    holds = waited[serial] is None and waited[concurrent] is not None
    return Claim(name, claim, verdict(holds), f"{evidence}.", numbers)


def _waiting(seconds: float | None, patience: float) -> str:
    if seconds is None:
        return f"gives no answer in {patience / _MILLI:,.0f} ms, but once the first has left"
    return f"answers after {seconds / _MILLI:,.1f} ms"


def threads(connections: int, memory: Mapping[str, float]) -> Claim:
    """Judge bytes per connection of "thread_per_connection" and "epoll_level"."""
    thread, epoll = memory["thread_per_connection"], memory["epoll_level"]
    ratio = thread / epoll if epoll > 0 else float("inf")
    times = f"{ratio:,.0f} times as much" if epoll > 0 else "next to nothing"
    evidence = (
        f"At {connections:,} connections one costs {thread / 1e3:,.1f} kB with a thread and "
        f"{epoll / 1e3:,.1f} kB with epoll, "
        + (f"which is {times} with the thread." if epoll > 0 else f"which is {times}.")
    )
    numbers = {f"{name}_bytes_per_connection": each for name, each in memory.items()}
    return Claim("threads", THREADS, verdict(ratio >= _MORE_MEMORY), evidence, numbers)


def polling(connections: int, burnt: Mapping[str, float]) -> Claim:
    """Judge seconds of CPU a second of "nonblocking_polling" and "epoll_level", both idle."""
    poll, epoll = burnt["nonblocking_polling"], burnt["epoll_level"]
    evidence = (
        f"With {connections:,} silent connections, polling uses {poll:.2f} s of CPU a second, "
        f"epoll {epoll:.2f} s."
    )
    numbers = {f"{name}_cpu_seconds_per_second": each for name, each in burnt.items()}
    holds = poll >= _BURNS and epoll <= _RESTS
    return Claim("polling", POLLING, verdict(holds), evidence, numbers)


def sleeping(pages: Sequence[float], taken: float) -> Claim:
    """Judge the seconds `taken` to fetch pages that take so many seconds each."""
    slowest, total = max(pages), sum(pages)
    each = ", ".join(f"{page:g}" for page in pages)
    evidence = (
        f"Pages of {each} s were fetched in {taken:.2f} s; the slowest takes {slowest:g} s, one "
        f"after another {total:g} s."
    )
    numbers = {"taken_seconds": taken, "slowest_seconds": slowest, "sum_seconds": total}
    return Claim("sleeping", SLEEPING, verdict(taken <= slowest * _SLOWEST), evidence, numbers)
