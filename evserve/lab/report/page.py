"""The whole page, from a result."""

from importlib.resources import files

from evserve.lab.families import FAMILIES
from evserve.lab.report.chart import Chart
from evserve.lab.report.machine import machine_section
from evserve.lab.report.markup import Markup, prose, tag
from evserve.lab.report.models import models_section
from evserve.lab.report.series import METRICS, Metric, lines_of
from evserve.lab.report.table import table_section
from evserve.lab.results import Claim, ModelResult, Result, Verdict


_TITLE = "The I/O-model lab"
_VERDICTS = {Verdict.HOLDS: "holds", Verdict.FAILS: "fails", Verdict.UNKNOWN: "unknown"}


def as_html(result: Result) -> str:
    """Return the page of a result: one file, which needs no other and no network."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", _TITLE),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(files(__package__).joinpath("style.css").read_text("utf-8"))),
    )
    body = tag(
        "body",
        *_header(result),
        *_claims(result),
        *_charts(result),
        *table_section(result),
        *models_section(result),
        *machine_section(result),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _header(result: Result) -> list[Markup]:
    settings, machine = result.settings, result.machine
    found = [
        tag("h1", _TITLE),
        tag(
            "p",
            f"{len(result.models)} models under the same load, one after another: at most "
            f"{settings.most_active} connections talk, the rest are idle. Measured "
            f"{result.started[:10]} in {result.seconds:,.0f} s on {machine.cores} cores "
            f"({machine.cpu}).",
        ),
    ]
    if result.partial is not None:
        cut = f"This report is partial: {result.partial}. What was not run is marked as such."
        found.append(tag("p", tag("strong", cut), class_="partial"))
    places = (
        ("#claims", "Claims, checked"),
        ("#charts", "Charts"),
        ("#numbers", "All numbers"),
        ("#models", "The models"),
        ("#measured", "How it was measured"),
    )
    found.append(tag("nav", *(tag("a", name, href=to) for to, name in places)))
    return found


def _claims(result: Result) -> list[Markup]:
    cards = [_claim(claim) for claim in result.claims]
    if not cards:
        cards = [tag("p", "The experiments on the claims were left out.", class_="quiet")]
    return [
        tag("h2", "Claims, checked", id="claims"),
        tag(
            "p",
            "What tutorials say about the models, and what small experiments on this "
            "machine answered.",
            class_="quiet",
        ),
        tag("div", *cards, class_="cards"),
    ]


def _claim(claim: Claim) -> Markup:
    return tag(
        "article",
        tag("h3", claim.claim),
        tag("span", str(claim.verdict), class_=f"verdict {_VERDICTS[claim.verdict]}"),
        tag("p", prose(claim.evidence)),
        class_="card claim",
    )


def _charts(result: Result) -> list[Markup]:
    present = {model.family for model in result.models}
    choices = [_choice("all", "all families", True)]
    choices += [_choice(each.key, each.name) for each in FAMILIES if each.key in present]
    return [
        tag("h2", "Charts", id="charts"),
        tag(
            "p",
            "Colours are families, marks their members. A cross marks a model's last figures "
            "before it broke, and the name says at how many connections that was. A hollow mark "
            "says that the load generator was the limit there, not the model. All axes are "
            "logarithmic.",
            class_="quiet",
        ),
        tag("fieldset", tag("legend", "Show"), *choices, class_="families"),
        *(_chart(result, metric) for metric in METRICS),
    ]


def _choice(key: str, name: str, checked: bool = False) -> Markup:
    return tag(
        "label",
        tag(
            "input",
            type="radio",
            name="family",
            id=f"show-{key}",
            checked="checked" if checked else None,
        ),
        name,
        class_=key,
    )


def _chart(result: Result, metric: Metric) -> Markup:
    lines = lines_of(result.models, metric)
    caption = tag(
        "figcaption",
        tag("h3", metric.title),
        tag("span", metric.better, class_="quiet small"),
        tag("p", metric.remark, class_="quiet small"),
    )
    if not lines:
        nothing = tag("p", "No model has figures for this chart.", class_="quiet")
        return tag("figure", caption, nothing, id=metric.key)
    counts = [cell.connections for cell in result.models[0].cells]
    picture = Chart.of(metric, lines, counts).svg()
    shown = {line.model.name for line in lines}
    absent = [_absence(model) for model in result.models if model.name not in shown]
    below = f"Not in it: {'; '.join(absent)}." if absent else None
    return tag(
        "figure",
        caption,
        tag("div", picture, class_="scroll", tabindex=0, role="group", aria_label=metric.title),
        below and tag("p", below, class_="quiet small"),
        id=metric.key,
    )


def _absence(model: ModelResult) -> str:
    broke = model.broke
    if broke is None:
        return f"{model.name} (no figures)"
    return f"{model.name} ({broke.outcome} at {broke.connections:,})"
