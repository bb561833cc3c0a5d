"""Tables and paragraphs as HTML, which notebooks display; all text is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape as to_html

from .errors import escape
from .output import LINES


def text(content: object) -> str:
    """Escape text, which may come from a file; lines stay lines."""
    return to_html(escape(str(content), LINES)).replace("\n", "<br>")


def paragraph(content: str, tag: str = "") -> str:
    """Return a paragraph, in a tag such as ``b``; empty if the text is."""
    inner = f"<{tag}>{text(content)}</{tag}>" if tag else text(content)
    return f"<p>{inner}</p>" if content else ""


def table(rows: Iterable[Sequence[object]], left: Sequence[bool], header: Sequence[str] = ()) -> str:
    """Return a table, with columns of text to the `left`, and numbers, which are not broken, to the right."""
    numbers = " style='text-align: right; white-space: nowrap'"
    sides = [" style='text-align: left'" if each else numbers for each in left]

    def row(tag: str, cells: Sequence[object]) -> str:
        shown = (f"<{tag}{side}>{text(cell)}</{tag}>" for side, cell in zip(sides, cells, strict=True))
        return f"<tr>{''.join(shown)}</tr>"

    head = f"<thead>{row('th', header)}</thead>" if header else ""
    return f"<table>{head}<tbody>{''.join(row('td', each) for each in rows)}</tbody></table>"


def named(title: str, rows: Mapping[str, object]) -> str:
    """Return a title, and a table of texts by name."""
    return paragraph(title, "b") + table(rows.items(), (True, True))
