"""Printing of tables and paragraphs: coloured on a terminal, plain in a file or pipe, HTML in notebooks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..util import html
from ..util.errors import escape
from ..util.output import LINES

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

PLAIN_WIDTH = 100  # width of plain text

Section = tuple[str, Sequence["RenderableType"]]
"""A title, which may be empty, and the content below it."""


def make_table(
    *columns: str, left: Iterable[str] = (), header: bool = True, gap: int = 2, fold: bool = True
) -> Table:
    """Return an empty table without rules, with `gap` blanks between columns.

    Columns in `left` are text: left-aligned, and with `fold` wrapped where space is short.
    """
    from rich.table import Table

    class Escaped(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*map(_escaped, cells), **options)

    table = Escaped(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim", show_header=header)
    for column in columns:
        if column in left:
            table.add_column(column, overflow="fold", no_wrap=not fold)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    return table


def note(text: str) -> Text:
    """Return an explanatory paragraph in dimmed text."""
    from rich.text import Text

    return Text(_escaped(text), style="dim")


def bold(text: str) -> Text:
    """Return a paragraph in bold text."""
    from rich.text import Text

    return Text(_escaped(text), style="bold")


def _escaped(part: Any) -> Any:
    """Escape control characters of text, which may come from a file; return other content as it is."""
    return escape(part, LINES) if isinstance(part, str) else part


def content(part: Any) -> dict[str, Any]:
    """Return a table, paragraph or note as pages read it."""
    from rich.table import Table
    from rich.text import Text

    if isinstance(part, Text):
        return {"kind": "note", "text": part.plain}
    if not isinstance(part, Table):
        return {"kind": "text", "text": str(part)}
    rows = [*zip(*(column.cells for column in part.columns), strict=True)]
    if any(isinstance(cell, Table) for row in rows for cell in row):  # a grid of tables
        return {"kind": "grid", "parts": [content(cell) for row in rows for cell in row]}
    header = [str(column.header).replace("\n", " ") for column in part.columns] if part.show_header else []
    return {
        "kind": "table", "header": header, "left": [column.justify != "right" for column in part.columns],
        "rows": [(bool(row.style), cells) for row, cells in zip(part.rows, rows, strict=True)],
    }  # fmt: skip


def to_html(sections: Iterable[Section]) -> str:
    """Return sections as HTML, for notebooks."""
    texts = []
    for title, parts in sections:
        texts += [html.paragraph(title, "b"), *map(_part_to_html, map(content, parts))]
    return "".join(texts)


def _part_to_html(part: Mapping[str, Any]) -> str:
    if part["kind"] == "grid":
        return "".join(map(_part_to_html, part["parts"]))
    if part["kind"] == "table":
        return html.table([cells for _, cells in part["rows"]], part["left"], part["header"])
    return html.paragraph(part["text"], "small" if part["kind"] == "note" else "")


def show(sections: Iterable[Section], console: Console | None = None) -> None:
    """Print sections, with an empty line after each; a table wider than the console is printed in full.

    By default the console is stdout, `PLAIN_WIDTH` columns wide if it is not a terminal.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.padding import Padding
    from rich.table import Table

    if console is None:
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        # In a notebook rich would display each capture as an output of its own.
        console = Console(highlight=False, markup=False, emoji=False, width=width, force_jupyter=False)
    width, unbounded = console.width, console.options.update(max_width=10_000)
    for title, parts in sections:
        with console.capture() as capture:
            if title:
                console.print(_escaped(title), style="bold", soft_wrap=True)
            for part in map(_escaped, parts):
                padded = Padding(part, (0, 0, 0, 2 if title else 0), expand=False)
                if not isinstance(part, str):
                    rigid = isinstance(part, Table) and all(column.no_wrap for column in part.columns)
                    needed = Measurement.get(console, unbounded, padded)
                    console.width = max(width, needed.maximum if rigid else needed.minimum)
                console.print(padded)
                console.width = width
        text = "\n".join(line.rstrip() for line in capture.get().splitlines())  # rich pads lines with blanks
        getattr(console.file, "write_styled", console.file.write)(f"{text}\n\n")
    console.file.flush()  # raises if the pipe is closed
