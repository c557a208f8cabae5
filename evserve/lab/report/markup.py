"""Elements of HTML and SVG whose text is never taken for markup; XML parsers read them too."""

import re
from html import escape


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Markup(str):
    """Text that is markup already; any other text is escaped where it is put into an element."""

    __slots__ = ()


Child = str | None | list[Markup]


def text_of(child: Child) -> Markup:
    """Return a child as markup."""
    if child is None:
        return Markup()
    if isinstance(child, list):
        return Markup("".join(child))
    if isinstance(child, Markup):
        return child
    return Markup(escape(_NOT_XML.sub("�", child), quote=True))


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """Return an element; `class_` is the attribute class, `a_b` is a-b; None leaves one out."""
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            spelt = key.rstrip("_").replace("_", "-")
            words.append(f'{spelt}="{text_of(_plain(value))}"')
    inside = "".join(text_of(child) for child in children)
    opening = " ".join(words)
    if not inside and name in EMPTY:
        return Markup(f"<{opening}/>")
    return Markup(f"<{opening}>{inside}</{name}>")


EMPTY = {"meta", "link", "input", "path", "line", "circle", "rect", "br", "use"}


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(value)


def prose(text: str) -> Markup:
    """Return text in which `this` is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a lone backtick is just one
        return text_of(text)
    marked = [
        tag("code", part) if number % 2 else text_of(part) for number, part in enumerate(parts)
    ]
    return Markup("".join(marked))
