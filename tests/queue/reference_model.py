"""The simplest possible queue, to compare the core with: lists, and linear searches."""

from attrs import Factory, define


@define(eq=False)
class Item:
    id: int
    tube: str
    pri: int
    ttr: int
    state: str  # staged, ready, reserved, delayed, buried
    due: float = 0.0
    owner: "Consumer | None" = None
    key: str | None = None
    timeouts: int = 0
    reserves: int = 0


@define(eq=False)
class Consumer:
    number: int
    use: str = "default"
    watch: list[str] = Factory(lambda: ["default"])
    wanted: int = 0  # 0: not waiting
    until: float | None = None
    open: bool = True


@define(eq=False)
class Model:
    """`answers` has what waiting consumers were told: (consumer, ids) or (consumer, reply)."""

    items: dict[int, Item] = Factory(dict)
    queue: list[Consumer] = Factory(list)
    paused: dict[str, float] = Factory(dict)
    buried: list[Item] = Factory(list)
    answers: list[tuple[Consumer, object]] = Factory(list)

    def in_state(self, *states: str) -> list[Item]:
        return [item for item in self.items.values() if item.state in states]

    def available(self, consumer: Consumer) -> list[Item]:
        found = [
            item
            for item in self.in_state("ready")
            if item.tube in consumer.watch and item.tube not in self.paused
        ]
        return sorted(found, key=lambda item: (item.pri, item.id))

    def held(self, consumer: Consumer) -> list[Item]:
        return [item for item in self.in_state("reserved") if item.owner is consumer]

    def deadline_soon(self, consumer: Consumer, now: float) -> bool:
        return any(item.due - 1 <= now for item in self.held(consumer))

    def take(self, consumer: Consumer, wanted: int, now: float) -> list[int]:
        taken = self.available(consumer)[:wanted]
        for item in taken:
            item.state, item.owner, item.due = "reserved", consumer, now + item.ttr
            item.reserves += 1
        return [item.id for item in taken]

    def reserve(
        self, consumer: Consumer, wanted: int, timeout: float | None, now: float
    ) -> object:
        if taken := self.take(consumer, wanted, now):
            return taken
        if self.deadline_soon(consumer, now):
            return "DEADLINE_SOON"
        if timeout == 0:
            return "TIMED_OUT"
        consumer.wanted = wanted
        consumer.until = None if timeout is None else now + timeout
        self.queue.append(consumer)
        return None

    def answer(self, consumer: Consumer, answer: object) -> None:
        self.queue.remove(consumer)
        consumer.wanted = 0
        self.answers.append((consumer, answer))

    def serve(self, now: float) -> None:
        while True:
            best = [
                (item.pri, item.id, consumer)
                for consumer in reversed(self.queue)
                for item in self.available(consumer)[:1]
            ]
            if not best:
                return
            first = min(best, key=lambda each: each[:2])[:2]
            consumer = next(each for each in self.queue if first in _places(self, each))
            self.answer(consumer, self.take(consumer, consumer.wanted, now))

    def give_back(self, item: Item) -> None:
        item.state, item.owner = "ready", None

    def advance(self, now: float) -> None:
        self.paused = {tube: until for tube, until in self.paused.items() if until > now}
        for item in self.in_state("delayed"):
            if item.due <= now:
                item.state = "ready"
        for item in self.in_state("reserved"):
            if item.owner is not None and item.due <= now:
                self.give_back(item)
                item.timeouts += 1
        self.serve(now)
        for consumer in list(self.queue):
            if self.deadline_soon(consumer, now):
                self.answer(consumer, "DEADLINE_SOON")
            elif consumer.until is not None and consumer.until <= now:
                self.answer(consumer, "TIMED_OUT")


def _places(model: Model, consumer: Consumer) -> list[tuple[int, int]]:
    return [(item.pri, item.id) for item in model.available(consumer)]
