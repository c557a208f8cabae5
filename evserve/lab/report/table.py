"""The table of all numbers."""

from collections.abc import Callable

from evserve.lab.report.markup import Markup, tag
from evserve.lab.report.units import duration, size
from evserve.lab.results import Cell, Figures, ModelResult, Result


_COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("messages/s", lambda figures: f"{figures.messages_per_second:,.0f}"),
    ("p50", lambda figures: duration(figures.p50_seconds)),
    ("p99", lambda figures: duration(figures.p99_seconds)),
    ("max", lambda figures: duration(figures.max_seconds)),
    ("CPU / message", lambda figures: duration(figures.cpu_seconds_per_message)),
    ("memory", lambda figures: size(figures.memory_bytes)),
    ("memory / connection", lambda figures: size(figures.memory_bytes_per_connection)),
    ("processes", lambda figures: f"{figures.processes:,}"),
    ("all served after", lambda figures: duration(figures.connect_seconds)),
)


def table_section(result: Result) -> list[Markup]:
    """Return the heading and the table."""
    names = ("model", "connections", *(name for name, _ in _COLUMNS))
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    table = tag("table", head, *(_body(model) for model in result.models))
    return [
        tag("h2", "All numbers", id="numbers"),
        tag(
            "p",
            "An asterisk: the load generator was the limit, so that messages/s and latencies are "
            "its own as much as the model's.",
            class_="quiet small",
        ),
        tag(
            "div",
            table,
            class_="scroll table",
            tabindex=0,
            role="group",
            aria_label="All numbers",
        ),
    ]


def _body(model: ModelResult) -> Markup:
    rows = []
    for number, cell in enumerate(model.cells):
        first = None
        if number == 0:
            link = tag("a", model.name, href=f"#{model.name}")
            first = tag("th", link, scope="rowgroup", rowspan=len(model.cells))
        rows.append(tag("tr", first, *_row(cell)))
    return tag("tbody", *rows, class_=model.family)


def _row(cell: Cell) -> list[Markup]:
    head = tag("th", f"{cell.connections:,}", scope="row")
    figures = cell.figures
    if figures is None:
        text = f"{cell.outcome}: {cell.why}"
        return [head, tag("td", text, colspan=len(_COLUMNS), class_="why")]
    star = None
    if figures.generator_saturated is not None:
        star = tag("span", " *", class_="star", title=figures.generator_saturated)
    first, *rest = [write(figures) for _, write in _COLUMNS]
    return [head, tag("td", first, star), *(tag("td", text) for text in rest)]
