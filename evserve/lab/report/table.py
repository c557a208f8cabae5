"""The table of all numbers."""

from collections.abc import Callable

from evserve.lab.grid import MANY
from evserve.lab.report.markup import Markup, tag
from evserve.lab.report.units import duration, size
from evserve.lab.results import Cell, Figures, ModelResult, Result


def _memory_per_connection(figures: Figures, connections: int) -> str:
    return size(figures.memory_bytes_per_connection) if connections >= MANY else ""


_COLUMNS: tuple[tuple[str, Callable[[Figures, int], str]], ...] = (
    ("messages/s", lambda figures, _: f"{figures.messages_per_second:,.0f}"),
    ("p50", lambda figures, _: duration(figures.p50_seconds)),
    ("p99", lambda figures, _: duration(figures.p99_seconds)),
    ("max", lambda figures, _: duration(figures.max_seconds)),
    ("CPU per message", lambda figures, _: duration(figures.cpu_seconds_per_message)),
    ("memory", lambda figures, _: size(figures.memory_bytes)),
    ("memory per connection", _memory_per_connection),
    ("processes", lambda figures, _: f"{figures.processes:,}"),
    ("all served after", lambda figures, _: duration(figures.connect_seconds)),
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
            "its own as much as the model's. Memory per connection says nothing with fewer than "
            f"{MANY}.",
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
    rows = [_row(cells) for cells in _groups(model)]
    link = tag("a", model.name, href=f"#{model.name}")
    first = tag("th", link, scope="rowgroup", rowspan=len(rows))
    found = [tag("tr", first if not number else None, *row) for number, row in enumerate(rows)]
    return tag("tbody", *found, class_=model.family)


def _groups(model: ModelResult) -> list[list[Cell]]:
    """Return the cells of each row: those that have no figures for the same reason share one."""
    found: list[list[Cell]] = []
    for cell in model.cells:
        last = found[-1][-1] if found else None
        alike = last is not None and (last.outcome, last.why) == (cell.outcome, cell.why)
        if alike and cell.figures is None:
            found[-1].append(cell)
        else:
            found.append([cell])
    return found


def _row(cells: list[Cell]) -> list[Markup]:
    cell, last = cells[0], cells[-1]
    several = f" to {last.connections:,}" if last is not cell else ""
    head = tag("th", f"{cell.connections:,}{several}", scope="row")
    figures = cell.figures
    if figures is None:
        text = f"{cell.outcome}: {cell.why}"
        return [head, tag("td", text, colspan=len(_COLUMNS), class_="why")]
    star = None
    if figures.generator_saturated is not None:
        star = tag("span", " *", class_="star", title=figures.generator_saturated)
    first, *rest = [write(figures, cell.connections) for _, write in _COLUMNS]
    return [head, tag("td", first, star), *(tag("td", text) for text in rest)]
