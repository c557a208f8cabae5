"""Output: what a verb found, as a table or lines for people, or as JSON Lines for programs."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO

from attrs import define, frozen

from evserve.plugin import MAX_TEXT, printable
from evserve.writing import STDOUT, print_to, writing


Record = dict[str, Any]

_DUMPED: Final = 256
"""Bytes shown of a body that is no text."""


@frozen
class Column:
    """A column of a table: its heading, and its text in the row of a record."""

    heading: str
    text: Callable[[Record], str]
    right: bool = False


def number_column(key: str) -> Column:
    """Return the column of a record's whole number, which has its name as the heading."""
    return Column(key, lambda record: f"{record[key]:,}", right=True)


@define(eq=False)
class Output:
    """Writes to a stream; each method raises UnwritableError.

    What an event or a person brought in is escaped, so that it cannot control the terminal.
    """

    stream: TextIO | None
    json: bool = False

    def record(self, record: Record, text: str) -> None:
        """Write one record: as JSON, or as the line `text`."""
        if self.json:
            self.text(f"{json.dumps(record)}\n")
        else:
            self.line(text)

    def line(self, text: str) -> None:
        """Write a line for people."""
        self.text(f"{escaped(text)}\n")

    def text(self, text: str) -> None:
        """Write text that is harmless already."""
        if self.stream is not None and (encoding := self.stream.encoding):
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        print_to(self.stream, text)

    def rows(
        self,
        records: Sequence[Record],
        columns: Sequence[Column],
        total: Record | None = None,
    ) -> None:
        """Write records: a line of JSON each, or a table; `total` is its last row."""
        if self.json:
            for each in records:
                self.text(f"{json.dumps(each)}\n")
            return
        shown = [*records, total] if total is not None else records
        cells = [[escaped(column.text(each)) for column in columns] for each in shown]
        if self.stream is not None and self.stream.isatty():
            self._draw(columns, cells, has_total=total is not None)
        else:
            self._align([[column.heading for column in columns], *cells], columns)

    def raw(self, data: bytes) -> None:
        """Write exactly `data`."""
        if self.stream is None:
            print_to(None, "")
            return
        with writing(STDOUT):
            self.stream.flush()
            self.stream.buffer.write(data)
            self.stream.flush()

    def _align(self, lines: list[list[str]], columns: Sequence[Column]) -> None:
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        for line in lines:
            padded = [
                cell.rjust(width) if column.right else cell.ljust(width)
                for cell, width, column in zip(line, widths, columns, strict=True)
            ]
            self.line("  ".join(padded).rstrip())

    def _draw(self, columns: Sequence[Column], cells: list[list[str]], *, has_total: bool) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            justify: Any = "right" if column.right else "left"
            table.add_column(Text(column.heading), justify=justify, overflow="fold")
        for number, line in enumerate(cells, 1):
            table.add_row(
                *map(Text, line),  # rich reads no markup in a Text
                style="bold" if has_total and number == len(cells) else "",
                end_section=has_total and number == len(cells) - 1,
            )
        with writing(STDOUT):
            Console(file=self.stream).print(table)


def escaped(text: str) -> str:
    """Return `text` of any length as one printable line."""
    return "".join(
        printable(text[start : start + MAX_TEXT]) for start in range(0, len(text), MAX_TEXT)
    )


def data_fields(name: str, data: bytes) -> Record:
    """Return bytes for a record: `name` if they are UTF-8, `name_base64` if not."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def body_text(data: bytes) -> str:
    """Return a body for people: text as it is, JSON indented, else a dump of the first bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return hex_dump(data)
    lines = text.replace("\t", "    ").splitlines()
    if not all(line.isprintable() for line in lines):
        return hex_dump(data)
    if text.lstrip()[:1] in ("{", "["):
        try:
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return "\n".join(lines)
        return "\n".join(map(escaped, text.split("\n")))
    return "\n".join(lines)


def hex_dump(data: bytes) -> str:
    """Return the first bytes of `data` as `hexdump -C` shows them."""
    lines = []
    for start in range(0, min(len(data), _DUMPED), 16):
        part = data[start : start + 16]
        letters = part.decode("ascii", "replace").replace("\ufffd", ".")
        shown = "".join(each if each.isprintable() else "." for each in letters)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  |{shown}|")
    if len(data) > _DUMPED:
        lines.append(f"... {len(data) - _DUMPED:,} bytes more (--raw prints all)")
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that fits it, such as `1.5 s` or `3.2 h`."""
    if seconds is None:
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 or not seconds else f"{seconds * 1000:.0f} ms"
