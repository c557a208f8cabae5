"""A section for each model: how it works, and where it broke."""

from evserve.lab.families import FAMILIES
from evserve.lab.report.markup import Markup, prose, tag
from evserve.lab.results import ModelResult, Outcome, Result, connections_of


def models_section(result: Result) -> list[Markup]:
    """Return the heading, and the models by family."""
    found = [tag("h2", "The models", id="models")]
    for family in FAMILIES:
        members = [model for model in result.models if model.family == family.key]
        if members:
            found.append(tag("h3", family.name))
            found.append(tag("div", *(_model(model) for model in members), class_="cards"))
    return found


def _model(model: ModelResult) -> Markup:
    _, *paragraphs = model.text.split("\n\n")
    return tag(
        "article",
        tag("h3", tag("code", model.program)),
        tag("p", prose(model.description or "It says nothing about itself."), class_="about"),
        *(tag("p", prose(" ".join(each.split()))) for each in paragraphs),
        tag("p", tag("strong", "Here: "), ending(model), class_="ended"),
        id=model.name,
        class_=f"card model {model.family}",
    )


def ending(model: ModelResult) -> str:
    """Say in a sentence where the model broke, or that it did not."""
    cell = model.broke
    if cell is not None:
        verb = "broke" if cell.outcome is Outcome.BROKE else "cannot run"
        return f"{verb} at {connections_of(cell.connections)}: {cell.why}."
    skipped = [cell for cell in model.cells if cell.outcome is Outcome.SKIPPED]
    if skipped:
        return f"not tried with {connections_of(skipped[0].connections)}: {skipped[0].why}."
    measured = [cell.connections for cell in model.cells if cell.figures is not None]
    if not measured:
        return "not run."
    notes = {cell.why for cell in model.cells if cell.figures is not None and cell.why}
    said = f" It said: {'; '.join(sorted(notes))}." if notes else ""
    return f"served everybody, up to {connections_of(max(measured))}.{said}"
