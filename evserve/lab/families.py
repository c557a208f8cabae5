"""The families of the models, in the order in which they are shown."""

from attrs import frozen


@frozen
class Family:
    """A few models that wait for input in the same way; `name` is what a reader sees."""

    key: str
    name: str
    members: tuple[str, ...]


FAMILIES = (
    Family(
        "blocking",
        "Blocking calls",
        ("blocking", "fork_per_connection", "thread_per_connection", "thread_pool"),
    ),
    Family("scanning", "Looking through all", ("nonblocking_polling", "select_loop", "poll_loop")),
    Family(
        "told",
        "Told which are ready or done",
        (
            "epoll_level",
            "epoll_edge",
            "selectors_loop",
            "signal_driven",
            "io_uring_completion",
        ),
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
YOURS = "yours"


def family_of(name: str) -> str:
    """Return the key of the family that a model of ours belongs to; YOURS if to none."""
    return next((each.key for each in FAMILIES if name in each.members), YOURS)


def place_of(name: str) -> tuple[int, int, str]:
    """Return where a model stands among all, for sorting."""
    for row, family in enumerate(FAMILIES):
        if name in family.members:
            return row, family.members.index(name), name
    return len(FAMILIES), 0, name
