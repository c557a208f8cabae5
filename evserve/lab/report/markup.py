"""Elements of HTML and SVG, with all text escaped; the result is well-formed XML as well."""

import re
from html import escape


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EMPTY = {"meta", "link", "input", "path", "line", "circle", "rect", "br", "use"}


class Markup(str):
    """Text that is markup already; other text is escaped when it is put into an element."""

    __slots__ = ()


Child = str | None | list[Markup]


def to_markup(child: Child) -> Markup:
    """Return a child as markup; None is empty."""
    if child is None:
        return Markup()
    if isinstance(child, list):
        return Markup("".join(child))
    if isinstance(child, Markup):
        return child
    return Markup(escape(_NOT_XML.sub("�", child), quote=True))


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """Return an element; `class_` is the attribute class, `a_b` is a-b; None is left out."""
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
            words.append(f'{key.rstrip("_").replace("_", "-")}="{to_markup(text)}"')
    content = "".join(to_markup(child) for child in children)
    opening = " ".join(words)
    if not content and name in _EMPTY:
        return Markup(f"<{opening}/>")
    return Markup(f"<{opening}>{content}</{name}>")


def prose(text: str) -> Markup:
    """Return text in which words in backticks are code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an unpaired backtick
        return to_markup(text)
    marked = [
        tag("code", part) if number % 2 else to_markup(part) for number, part in enumerate(parts)
    ]
    return Markup("".join(marked))
