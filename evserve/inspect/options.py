"""The options of `events`: its verbs, and what may stand with each."""

from typing import Any, Final

from attrs import frozen
from twisted.python import usage
from typing_extensions import override

from evserve.events import MAX_MANY, MAX_NUMBER
from evserve.options import choice, integer_between, positive_number, seconds_up_to


@frozen
class Usage:
    """What may stand after a verb.

    text: its words, for the help.  help: what it does.  words: how many of them, at least and at
    most; None is any number.  options: those that it takes beside --json and --queue.
    """

    text: str
    help: str
    words: tuple[int, int | None]
    options: frozenset[str] = frozenset()


USAGES: Final[dict[str, Usage]] = {
    "list": Usage(
        "[TYPE...] | --done [TYPE]",
        "count events by type, or show the history",
        (0, None),
        frozenset({"done", "limit"}),
    ),
    "peek": Usage(
        "TYPE | --id ID",
        "show the next event of a type",
        (0, 1),
        frozenset({"state", "id", "raw"}),
    ),
    "kick": Usage("TYPE [N]", "make buried events ready", (1, 2), frozenset({"all"})),
    "delete": Usage(
        "ID... | --type TYPE",
        "remove events that are not reserved",
        (0, None),
        frozenset({"type", "yes"}),
    ),
    "replay": Usage(
        "ID... | --type TYPE",
        "put handled events of the history again",
        (0, None),
        frozenset({"type", "failed", "limit"}),
    ),
    "pause": Usage("TYPE SECONDS", "let nothing be reserved for a time", (2, 2)),
    "resume": Usage("TYPE", "end a pause", (1, 1)),
    "drain": Usage("[--off]", "refuse every put from now on", (0, 0), frozenset({"off"})),
    "put": Usage(
        "TYPE [BODY|-]",
        "put an event; - is standard input",
        (1, 2),
        frozenset({"priority", "delay", "ttr", "key"}),
    ),
    "move": Usage(
        "--from URL --to URL [TYPE...]",
        "move the events of a queue into another",
        (0, None),
        frozenset({"from", "to", "rate", "no-wait"}),
    ),
}


class Options(usage.Options):
    """The options of `events`."""

    synopsis = "--queue URL [VERB] [options]"
    longdesc = "Looks into a queue, and mends it. Without a verb it lists the types of events."
    optParameters: list[list[Any]] = [
        ["queue", None, None, "URL of the queue, such as beanstalk://127.0.0.1:11300"],
        [
            "limit",
            None,
            None,
            "list --done, replay: events at most [default: 100; all]",
            integer_between(1, MAX_MANY),
        ],
        [
            "state",
            None,
            None,
            "peek: ready, delayed or buried [default: ready]",
            choice("ready", "delayed", "buried"),
        ],
        ["id", None, None, "peek: the event with this id"],
        ["type", None, None, "delete, replay: all events of this type"],
        ["priority", None, None, "put: 0 is the most urgent", integer_between(0, MAX_NUMBER)],
        ["delay", None, None, "put: seconds before it is ready", seconds_up_to(MAX_NUMBER)],
        ["ttr", None, None, "put: seconds that a consumer has", integer_between(1, MAX_NUMBER)],
        ["key", None, None, "put: name under which the type has one event at most"],
        ["from", None, None, "move: URL of the queue to empty"],
        ["to", None, None, "move: URL of the queue to fill"],
        ["rate", None, None, "move: events per second at most", positive_number],
    ]
    optFlags = [
        ["json", None, "Print JSON Lines"],
        ["done", None, "list: what was handled, the last first"],
        ["raw", None, "peek: print the body and nothing else"],
        ["all", None, "kick: all that are buried"],
        ["yes", None, "delete --type: do not ask"],
        ["failed", None, "replay --type: only those that were buried"],
        ["off", None, "drain: accept puts again"],
        ["no-wait", None, "move: leave what consumers have reserved"],
    ]

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["verb"], self["words"] = "list", []

    @override
    def getUsage(self, width: int | None = None) -> str:
        usages = {f"{name} {each.text}": each.help for name, each in USAGES.items()}
        longest = max(map(len, usages))
        lines = [f"  {words:<{longest}}  {text}" for words, text in usages.items()]
        return "\n".join([usage.Options.getUsage(self, width), "Verbs:", *lines, ""])

    def parseArgs(self, *words: str) -> None:
        if words:
            self["verb"], self["words"] = words[0], list(words[1:])

    @override
    def postOptions(self) -> None:
        name, words = self["verb"], self["words"]
        if name not in USAGES:
            raise usage.UsageError(f"no verb {name!r} ({', '.join(USAGES)})")
        verb = USAGES[name]
        of_verbs = frozenset[str]().union(*(each.options for each in USAGES.values()))
        for option in sorted(of_verbs - verb.options):
            if self[option] not in (None, 0):
                raise usage.UsageError(f"--{option}: not an option of {name}")
        least, most = verb.words
        if len(words) < least or (most is not None and len(words) > most):
            raise usage.UsageError(f"{name}: expected {name} {verb.text}")
        self._check_queues(name)
        self._check_words(name, words)

    def _check_queues(self, verb: str) -> None:
        if verb == "move":
            if self["queue"] is not None or not self["from"] or not self["to"]:
                raise usage.UsageError("move: name two queues: --from URL --to URL (no --queue)")
        elif not self["queue"]:
            raise usage.UsageError("say which queue: --queue URL")

    def _check_words(self, verb: str, words: list[str]) -> None:
        for wrong, problem in (
            (verb == "list" and self["done"] and len(words) > 1, "list --done: one type, or none"),
            (verb == "list" and self["limit"] and not self["done"], "--limit: needs --done"),
            (
                verb == "peek" and bool(words) is bool(self["id"]),
                "peek: name a type or --id ID, and not both",
            ),
            (self["id"] and self["state"], "--state: of a type, not of --id"),
            (self["raw"] and self["json"], "--raw and --json exclude each other (leave one out)"),
            (
                verb in ("delete", "replay") and bool(words) is bool(self["type"]),
                f"{verb}: name ids or --type TYPE, and not both",
            ),
            (self["yes"] and not self["type"], "--yes: with --type, not with ids"),
            (self["failed"] and not self["type"], "--failed: with --type, not with ids"),
            (verb == "replay" and self["limit"] and words, "--limit: with --type, not with ids"),
            (self["all"] and len(words) > 1, "kick: a number or --all, and not both"),
        ):
            if wrong:
                raise usage.UsageError(problem)
        if verb in ("kick", "pause") and len(words) > 1:
            words[1] = self._number(f"{verb} {words[1]}", words[1])

    def _number(self, name: str, text: str) -> Any:
        try:
            return integer_between(1, MAX_NUMBER)(text)
        except ValueError as error:
            raise usage.UsageError(f"{name}: {error}") from error
