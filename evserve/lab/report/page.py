"""The page of a result: one HTML file that needs no other file and no network."""

from collections.abc import Callable
from importlib.resources import files
from itertools import groupby

from evserve.lab.models import FAMILIES
from evserve.lab.report.chart import METRICS, Chart, Metric, series_with_points
from evserve.lab.report.markup import Markup, prose, tag
from evserve.lab.report.units import format_duration, format_size
from evserve.lab.results import (
    MIN_CONNECTIONS_FOR_MEMORY,
    Claim,
    Figures,
    Measurement,
    ModelResult,
    Outcome,
    Result,
    Verdict,
    format_connections,
)


_TITLE = "The I/O-model lab"
_VERDICT_CLASSES = {Verdict.HOLDS: "holds", Verdict.FAILS: "fails", Verdict.UNKNOWN: "unknown"}


def as_html(result: Result) -> str:
    """Return the page of a result."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", _TITLE),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(files(__package__).joinpath("style.css").read_text("utf-8"))),
    )
    sections = (
        ("claims", "Claims, checked", _claims_section),
        ("charts", "Charts", _charts_section),
        ("numbers", "All numbers", _table_section),
        ("models", "The models", _models_section),
        ("measured", "How it was measured", _conditions_section),
    )
    links = [tag("a", title, href=f"#{key}") for key, title, _ in sections]
    content = [
        element
        for key, title, make in sections
        for element in (tag("h2", title, id=key), *make(result))
    ]
    body = tag("body", *_header(result), tag("nav", *links), *content)
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _header(result: Result) -> list[Markup]:
    settings, machine = result.settings, result.machine
    found = [
        tag("h1", _TITLE),
        tag(
            "p",
            f"{len(result.models)} models under the same load, measured one by one: at most "
            f"{settings.most_active} connections are active, the rest are idle. Measured "
            f"{result.started[:10]} in {result.seconds:,.0f} s on {machine.cores} cores "
            f"({machine.cpu}).",
        ),
    ]
    if result.partial is not None:
        note = f"This report is partial: {result.partial}. What was not run is marked as such."
        found.append(tag("p", tag("strong", note), class_="partial"))
    return found


def _claims_section(result: Result) -> list[Markup]:
    cards = [_claim_card(claim) for claim in result.claims]
    if not cards:
        cards = [tag("p", "The experiments on the claims were left out.", class_="quiet")]
    return [
        tag(
            "p",
            "Claims that tutorials make about the models, and the results of small experiments "
            "on this machine.",
            class_="quiet",
        ),
        tag("div", *cards, class_="cards"),
    ]


def _claim_card(claim: Claim) -> Markup:
    return tag(
        "article",
        tag("h3", claim.claim),
        tag("span", str(claim.verdict), class_=f"verdict {_VERDICT_CLASSES[claim.verdict]}"),
        tag("p", prose(claim.evidence)),
        class_="card claim",
    )


def _charts_section(result: Result) -> list[Markup]:
    present = {model.family for model in result.models}
    choices = [_family_choice("all", "all families")]
    choices += [_family_choice(each.key, each.name) for each in FAMILIES if each.key in present]
    return [
        tag(
            "p",
            "Colours are families, markers are models. A cross is the last figure before a model "
            "broke; its label says at how many connections it broke. A hollow marker means that "
            "the load generator was the limit, not the model. All axes are logarithmic.",
            class_="quiet",
        ),
        tag("fieldset", tag("legend", "Show"), *choices, class_="families"),
        *(_chart_figure(result, metric) for metric in METRICS),
    ]


def _family_choice(key: str, name: str) -> Markup:
    checked = "checked" if key == "all" else None
    button = tag("input", type="radio", name="family", id=f"show-{key}", checked=checked)
    return tag("label", button, name, class_=key)


def _chart_figure(result: Result, metric: Metric) -> Markup:
    series = series_with_points(result.models, metric)
    caption = tag(
        "figcaption",
        tag("h3", metric.title),
        tag("span", metric.better, class_="quiet small"),
        tag("p", metric.remark, class_="quiet small"),
    )
    if not series:
        nothing = tag("p", "No model has figures for this chart.", class_="quiet")
        return tag("figure", caption, nothing, id=metric.key)
    counts = [cell.connections for cell in result.models[0].cells]
    svg = Chart.of(metric, series, counts).svg()
    box = tag("div", svg, class_="scroll", tabindex=0, role="group", aria_label=metric.title)
    shown = {each.model.name for each in series}
    missing = [_missing_note(model) for model in result.models if model.name not in shown]
    note = tag("p", f"Not shown: {'; '.join(missing)}.", class_="quiet small") if missing else None
    return tag("figure", caption, box, note, id=metric.key)


def _missing_note(model: ModelResult) -> str:
    broke = model.broke
    if broke is None:
        return f"{model.name} (no figures)"
    return f"{model.name} ({broke.outcome} at {broke.connections:,})"


def _memory_per_connection(figures: Figures, connections: int) -> str:
    if connections < MIN_CONNECTIONS_FOR_MEMORY:
        return ""
    return format_size(figures.memory_bytes_per_connection)


_COLUMNS: tuple[tuple[str, Callable[[Figures, int], str]], ...] = (
    ("messages/s", lambda figures, _: f"{figures.messages_per_second:,.0f}"),
    ("p50", lambda figures, _: format_duration(figures.p50_seconds)),
    ("p99", lambda figures, _: format_duration(figures.p99_seconds)),
    ("max", lambda figures, _: format_duration(figures.max_seconds)),
    ("CPU per message", lambda figures, _: format_duration(figures.cpu_seconds_per_message)),
    ("memory", lambda figures, _: format_size(figures.memory_bytes)),
    ("memory per connection", _memory_per_connection),
    ("processes", lambda figures, _: f"{figures.processes:,}"),
    ("all served after", lambda figures, _: format_duration(figures.connect_seconds)),
)


def _table_section(result: Result) -> list[Markup]:
    names = ("model", "connections", *(name for name, _ in _COLUMNS))
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    table = tag("table", head, *(_table_body(model) for model in result.models))
    return [
        tag(
            "p",
            "An asterisk means that the load generator was the limit: then messages/s and "
            "latencies depend on it as much as on the model. Memory per connection is not shown "
            f"below {MIN_CONNECTIONS_FOR_MEMORY} connections, where it means little.",
            class_="quiet small",
        ),
        tag(
            "div", table, class_="scroll table", tabindex=0, role="group", aria_label="All numbers"
        ),
    ]


def _table_body(model: ModelResult) -> Markup:
    # Neighbours without figures for the same reason share a row.
    groups = groupby(
        model.cells, key=lambda cell: (cell.outcome, cell.why, cell.figures and cell.connections)
    )
    rows = [_table_row(list(cells)) for _, cells in groups]
    link = tag("a", model.name, href=f"#{model.name}")
    first = tag("th", link, scope="rowgroup", rowspan=len(rows))
    found = [tag("tr", first if not number else None, *row) for number, row in enumerate(rows)]
    return tag("tbody", *found, class_=model.family)


def _table_row(cells: list[Measurement]) -> list[Markup]:
    cell, last = cells[0], cells[-1]
    upper = f" to {last.connections:,}" if last is not cell else ""
    head = tag("th", f"{cell.connections:,}{upper}", scope="row")
    figures = cell.figures
    if figures is None:
        text = f"{cell.outcome}: {cell.why}"
        return [head, tag("td", text, colspan=len(_COLUMNS), class_="why")]
    star = None
    if figures.generator_saturated is not None:
        star = tag("span", " *", class_="star", title=figures.generator_saturated)
    first, *rest = [write(figures, cell.connections) for _, write in _COLUMNS]
    return [head, tag("td", first, star), *(tag("td", text) for text in rest)]


def _models_section(result: Result) -> list[Markup]:
    found = []
    for family in FAMILIES:
        members = [model for model in result.models if model.family == family.key]
        if members:
            found.append(tag("h3", family.name))
            found.append(tag("div", *(_model_card(model) for model in members), class_="cards"))
    return found


def _model_card(model: ModelResult) -> Markup:
    _, *paragraphs = model.text.split("\n\n")
    return tag(
        "article",
        tag("h3", tag("code", model.program)),
        tag("p", prose(model.description or "It has no description."), class_="about"),
        *(tag("p", prose(" ".join(each.split()))) for each in paragraphs),
        tag("p", tag("strong", "Here: "), describe_ending(model), class_="ended"),
        id=model.name,
        class_=f"card model {model.family}",
    )


def describe_ending(model: ModelResult) -> str:
    """Return a sentence that says where the model broke, or that it did not."""
    cell = model.broke
    if cell is not None:
        verb = "broke" if cell.outcome is Outcome.BROKE else "cannot run"
        return f"{verb} at {format_connections(cell.connections)}: {cell.why}."
    skipped = [cell for cell in model.cells if cell.outcome is Outcome.SKIPPED]
    if skipped:
        return f"not tried with {format_connections(skipped[0].connections)}: {skipped[0].why}."
    measured = [cell.connections for cell in model.cells if cell.figures is not None]
    if not measured:
        disturbed = [cell for cell in model.cells if cell.outcome is Outcome.DISTURBED]
        return f"not measured: {disturbed[0].why}." if disturbed else "not run."
    notes = {cell.why for cell in model.cells if cell.figures is not None and cell.why}
    said = f" It printed: {'; '.join(sorted(notes))}." if notes else ""
    return f"served all clients, up to {format_connections(max(measured))}.{said}"


def _conditions_section(result: Result) -> list[Markup]:
    figures = [cell.figures for model in result.models for cell in model.cells if cell.figures]
    saturated = sum(each.generator_saturated is not None for each in figures)
    disturbed = result.count(Outcome.DISTURBED)
    limits = (
        f"the load generator was the limit in {saturated} of {len(figures)} measurements; there, "
        "compare CPU per message and not messages per second or latency"
    )
    others = (
        f"other programs used the CPU in {disturbed} measurements, which are marked as not "
        "measured; repeat them on an otherwise idle machine"
    )
    notes = (*result.notes, limits, *([others] if disturbed else []))
    return [
        tag("dl", *_definitions(_settings(result))),
        *(tag("p", f"Note: {note}.") for note in notes),
        tag("h3", "Machine"),
        tag("dl", *_definitions(_machine(result))),
        tag("h3", "Run it again"),
        tag("pre", tag("code", result.command)),
    ]


def _definitions(pairs: list[tuple[str, str]]) -> list[Markup]:
    return [each for name, text in pairs for each in (tag("dt", name), tag("dd", text))]


def _settings(result: Result) -> list[tuple[str, str]]:
    settings = result.settings
    return [
        ("connections", ", ".join(f"{count:,}" for count in settings.connections)),
        (
            "of these active",
            (
                f"at most {settings.most_active}, each with {settings.in_flight_per_connection} "
                "message in flight: the next is sent when the answer has come"
            ),
        ),
        ("message", f"a line of {settings.message_bytes} bytes; the answer is checked"),
        (
            "before measuring",
            (
                "a new process; every connection, idle or not, must have an answer within "
                f"{settings.ready_within_seconds:g} s; then {settings.warm_up_seconds:g} s of load"
            ),
        ),
        ("measured", f"{settings.seconds:g} s each; all models at one number, then the next"),
    ]


def _machine(result: Result) -> list[tuple[str, str]]:
    machine = result.machine
    return [
        ("CPU", f"{machine.cpu}, {machine.cores} cores"),
        ("memory", format_size(machine.memory_bytes)),
        ("kernel", machine.kernel),
        ("Python", machine.python),
        ("packages", ", ".join(f"{name} {each}" for name, each in machine.packages.items())),
        ("reactor of the generator", machine.reactor),
        ("open files", f"at most {machine.open_files_limit:,} per process"),
        ("load average before", f"{machine.load_average:.2f}"),
    ]
