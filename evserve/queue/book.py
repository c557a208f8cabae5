"""The book of the queue: every event, tube, client and binding, and what is counted about them.

The book knows no commands. Line (who waits for what) and Ledger (what changes and must be
committed) write in it.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable

from attrs import Factory, define

from evserve.queue.alarms import Alarms
from evserve.queue.model import Client, Event, Limits
from evserve.queue.states import State
from evserve.queue.tube import Tube


DEFAULT_TUBE = "default"


@define(eq=False, repr=False)
class Book:
    """Everything the core knows.

    `kept` and `bytes` count events and their bodies, those being committed included; `resident`
    is what the bodies in memory take. `dirty` holds the events whose counters have changed since
    they were last written.
    """

    limits: Limits = Factory(Limits)
    events: dict[int, Event] = Factory(dict)
    tubes: dict[str, Tube] = Factory(dict)
    clients: set[Client] = Factory(set)
    bindings: dict[str, dict[str, None]] = Factory(dict)
    dirty: dict[int, Event] = Factory(dict)
    alarms: Alarms = Factory(Alarms)
    next_id: int = 1
    kept: int = 0
    bytes: int = 0
    resident: int = 0
    total: int = 0
    timeouts: int = 0
    connections: int = 0
    waiting: int = 0

    def __attrs_post_init__(self) -> None:
        self.tube(DEFAULT_TUBE)

    def tube(self, name: str) -> Tube:
        """Return the tube called `name`, new if there was none."""
        tube = self.tubes.get(name)
        if tube is None:
            tube = self.tubes[name] = Tube(name, self.events)
        return tube

    def tidy(self, tube: Tube) -> None:
        """Forget `tube` if nothing refers to it any more."""
        if tube.unused and self.tubes.get(tube.name) is tube and tube.name != DEFAULT_TUBE:
            del self.tubes[tube.name]
            self.alarms.forget(tube)

    def connect(self, watch: Iterable[str] = (DEFAULT_TUBE,)) -> Client:
        """Return a new client, which uses the default tube and watches those named."""
        tube = self.tube(DEFAULT_TUBE)
        tube.using += 1
        client = Client(tube, {})
        for name in watch:
            self.watch(client, name)
        self.clients.add(client)
        self.connections += 1
        return client

    def use(self, client: Client, name: str) -> None:
        """Let what `client` puts go into the tube called `name`."""
        old, new = client.use, self.tube(name)
        new.using += 1
        old.using -= 1
        client.use = new
        self.tidy(old)

    def watch(self, client: Client, name: str) -> None:
        """Let `client` reserve from the tube called `name` too."""
        if name not in client.watch:
            tube = client.watch[name] = self.tube(name)
            tube.watching += 1

    def ignore(self, client: Client, name: str) -> bool:
        """Take a tube off the watch list; False if it is the only one there."""
        tube = client.watch.get(name)
        if tube is None:
            return True
        if len(client.watch) == 1:
            return False
        del client.watch[name]
        tube.watching -= 1
        self.tidy(tube)
        return True

    def bind(self, source: str, target: str) -> None:
        """From now on, copy what is put into `source` into `target` too."""
        self.bindings.setdefault(source, {})[target] = None

    def unbind(self, source: str, target: str) -> None:
        """Undo a binding, if there is one."""
        targets = self.bindings.get(source, {})
        targets.pop(target, None)
        if not targets:
            self.bindings.pop(source, None)

    def load(self, events: Iterable[Event]) -> None:
        """Take in what was stored by an earlier server; `sort` must follow.

        A million of them are to be there in a second or two, so the usual state is filed here and
        each heap is made in one go. Bodies are left in the store.
        """
        index = self.events
        for event in events:
            tube = event.tube
            index[event.id] = event
            tube.arrivals.append(event.id)
            self.bytes += event.size
            if event.key is not None:
                tube.keys[event.key] = event.id
            if event.state is State.READY:
                tube.ready_heap.append(tube.place(event))
            else:
                self.file(event)

    def sort(self) -> None:
        """Bring what was loaded into the order of arrival, of priority and of burial."""
        self.kept = len(self.events)
        for tube in self.tubes.values():
            tube.arrivals = deque(sorted(tube.arrivals))
            tube.count_ready()
            ordered = sorted(tube.buried.items(), key=lambda item: item[1].due)
            tube.buried = OrderedDict(ordered)

    def file(self, event: Event) -> None:
        """Put `event` where its state, which is not RESERVED, says."""
        if event.state is State.READY:
            event.tube.add_ready(event)
        elif event.state is State.DELAYED:
            event.tube.add_delayed(event)
            self.alarms.set(event.tube, event.due)
        else:
            event.tube.add_buried(event)

    def unfile(self, event: Event) -> None:
        """Take `event` out of wherever its state says it is, and count it as reserved."""
        tube = event.tube
        if event.state is State.READY:
            tube.drop_ready(event)
        elif event.state is State.DELAYED:
            tube.drop_delayed(event)
        elif event.state is State.BURIED:
            del tube.buried[event.id]
        else:
            assert event.owner is not None  # else it is on its way already
            event.owner.let_go(event)
            event.owner = None
            return
        event.state = State.RESERVED
        tube.reserved += 1
