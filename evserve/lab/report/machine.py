"""The end of the page: what was held equal, the machine, and how to do it again."""

from evserve.lab.report.markup import Markup, tag
from evserve.lab.report.units import size
from evserve.lab.results import Result


def machine_section(result: Result) -> list[Markup]:
    """Return the heading, two lists and the command."""
    notes = [tag("p", f"Note: {note}.") for note in (*result.notes, saturation_note(result))]
    return [
        tag("h2", "How it was measured", id="measured"),
        tag("dl", *_pairs(_settings(result))),
        *notes,
        tag("h3", "Machine"),
        tag("dl", *_pairs(_machine(result))),
        tag("h3", "Again"),
        tag("pre", tag("code", result.command)),
    ]


def _pairs(pairs: list[tuple[str, str]]) -> list[Markup]:
    return [each for name, text in pairs for each in (tag("dt", name), tag("dd", text))]


def _settings(result: Result) -> list[tuple[str, str]]:
    settings = result.settings
    return [
        ("connections", ", ".join(f"{count:,}" for count in settings.connections)),
        (
            "of these active",
            (
                f"at most {settings.most_active}, each with "
                f"{settings.in_flight_per_connection} message in flight: the next is sent when "
                "the answer is there"
            ),
        ),
        ("message", f"{settings.message_bytes} bytes, a line; the answer is checked"),
        (
            "before measuring",
            (
                "a fresh process; every connection, idle or not, is answered once, within "
                f"{settings.ready_within_seconds:g} s in all; "
                f"{settings.warm_up_seconds:g} s of load"
            ),
        ),
        ("measured", f"{settings.seconds:g} s each; all models at one number, then the next"),
    ]


def _machine(result: Result) -> list[tuple[str, str]]:
    machine = result.machine
    return [
        ("CPU", f"{machine.cpu}, {machine.cores} cores"),
        ("memory", size(machine.memory_bytes)),
        ("kernel", machine.kernel),
        ("Python", machine.python),
        ("packages", ", ".join(f"{name} {each}" for name, each in machine.packages.items())),
        ("reactor of the generator", machine.reactor),
        ("open files", f"at most {machine.open_files_limit:,} per process"),
        ("load average before", f"{machine.load_average:.2f}"),
    ]


def saturation_note(result: Result) -> str:
    """Say in how many cells the generator was the limit."""
    figures = [cell.figures for model in result.models for cell in model.cells if cell.figures]
    saturated = sum(each.generator_saturated is not None for each in figures)
    return (
        f"the load generator was the limit in {saturated} of {len(figures)} measurements, where "
        "messages per second and latency do not tell the models apart, but CPU per message does"
    )
