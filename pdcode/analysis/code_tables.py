"""The tables of `pdcode codes`: families, verified catalogue, and properties of a code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from math import isinf
from typing import TYPE_CHECKING

import numpy as np

from ..codes import catalogue, registry
from ..codes.code import Code
from ..codes.family import Family
from ..codes.summary import NOISE, Quality
from ..config import kinds
from ..util.errors import InputError
from ..util.formats import DASH, number, percent
from . import printing
from .printing import make_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TOLERANCE = 1e-12  # allowed difference from a claim
SAMPLES = (4, 8, 9, 16, 64, 256)  # numbers of blocks that are listed for families with many sizes
MAX_SIZES, MAX_BLOCKS = 4, 1000  # number of listed sizes, and of their blocks
USUAL = 4  # of the sizes over the same blocks, the one with the weight nearest to this is listed
MULTIPLES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)  # arrivals in units of k


def families(target: Console | None = None) -> None:
    """Print the families of codes: descriptions, and sizes with coherence."""
    columns = ("family", "description", "sizes (n, k, w) and coherence")
    table = make_table(*columns, left=columns)
    notes = []
    for name in kinds.names("families"):
        try:
            family = registry.family_of(name)
        except InputError as error:  # of a plug-in
            notes.append(f"{name}: {error}")
            continue
        table.add_row(family.name, family.about, sizes(family))
    table.add_row("auto", "the family of least coherence at this size", "any n, any k, at most the given w")
    printing.show([("", [table, *notes])], target)


def sizes(family: Family) -> str:
    """List some sizes of a family with their claimed coherence."""
    lines: list[str] = []
    for k in range(2, MAX_BLOCKS):
        shapes = list(family.sizes(k, None))
        if not shapes or not (k in SAMPLES or all(size.least == size.most for size in shapes)):
            continue
        size = min(shapes, key=lambda each: (abs(each.weight - USUAL), -each.most))
        n = 2 * k if isinf(size.most) else int(size.most)
        claim = family.coherence(n, k, size.weight)
        least = f"{k}, {2 * k}, …" if size.step > 1 else f"≥{size.least}" if size.least > 1 else "any n"
        rows = least if isinf(size.most) else f"{n}" if size.least == n else f"≤{n}"
        lines.append(f"({rows},{k},{size.weight})" + (f" {fraction(claim)}" if claim else ""))
        if len(lines) > MAX_SIZES:
            break
    return ", ".join(lines[:MAX_SIZES]) + (" …" if len(lines) > MAX_SIZES else "")


def fraction(value: float) -> str:
    """Format a coherence as 1/m if exact, else with four digits."""
    near = Fraction(value).limit_denominator(10_000)
    exact = abs(float(near) - value) < TOLERANCE and near.numerator == 1
    return str(near) if exact else f"{value:.4f}"


def verify() -> int:
    """Print claimed and measured properties of the catalogue; return the number of wrong entries."""
    columns = "(n, k, w)", "claimed", "measured", "difference", "tightness", "error", "seconds", "verdict"
    table = make_table("family", *columns, left=("family",))
    wrong = 0
    for entry in catalogue.ENTRIES:
        start_s = time.perf_counter()
        code, coherence, tightness = catalogue.verify(entry)
        spent_s = time.perf_counter() - start_s
        holds = coherence <= TOLERANCE and abs(tightness) <= TOLERANCE
        wrong += not holds
        claimed = entry.coherence is not None
        table.add_row(
            entry.family,
            f"({entry.workers}, {entry.blocks}, {entry.weight})",
            fraction(entry.coherence or 0.0) if claimed else DASH,
            fraction(code.coherence),
            f"{coherence:.0e}" if claimed else DASH,
            f"{code.tightness:.6f}",
            f"{abs(tightness):.0e}" if entry.tight else DASH,
            f"{spent_s:.2f}",
            "holds" if holds else "WRONG",
        )
    printing.show([("", [table, f"\n{wrong} wrong" if wrong else "\nAll as claimed."])])
    return wrong


def show(code: Code, quality: Quality, title: str = "", target: Console | None = None) -> None:
    """Print the properties of a code."""
    name = (
        f"{code.family}: {len(code)} rows over {code.blocks} blocks, weight {code.weight}, seed {code.seed}"
    )
    about = make_table("topic", "text", left=("topic", "text"), header=False)
    for topic, text in facts(code, quality):
        about.add_row(topic, text)
    legend = (
        "captured: fraction of the energy of isotropic blocks after this number of random arrivals; adjoint: "
        f"exact; least squares: {exactness(quality)}. information: joint differential entropy of q random "
        f"arrivals with noise of {NOISE:g} of a payload's variance; nats per element of a block. Arrivals "
        "for 90 %, 99 %: where the mean reaches them; for all: their mean."
    )
    sections: list[printing.Section] = [
        (title + name, [about]),
        ("Lower bounds on the coherence", [bounds(quality)]),
        ("Captured energy and information", [arrivals(code, quality), printing.note(legend)]),
    ]
    printing.show(sections, target)


def facts(code: Code, quality: Quality) -> Iterator[tuple[str, str]]:
    """Yield topics and texts: coherence, frame bounds, spark, needed arrivals, options."""
    low, high = quality.frame_bounds
    yield "coherence", f"{quality.coherence:.6g}"
    yield "frame bounds", f"{low:.6g} … {high:.6g}, tightness {quality.tightness:.6g}"
    yield "spark", str(quality.spark)
    yield "worst pair", f"mutual information {number(quality.worst_pair)} nats"
    needed = (
        f"{name} not reached"
        if isinf(mean)
        else f"{name} {mean:.1f}{f' ± {error:.1f}' if error >= 0.05 else ''} = {mean / code.blocks:.3f} k"
        for name, (mean, error) in zip(("90 %:", "99 %:", "all:"), quality.needed, strict=True)
    )
    yield "arrivals for", ", ".join(needed)
    options = ", ".join(f"{key} = {_short(value)}" for key, value in code.options.items())
    if options:
        yield "options", options
    for note in code.notes:
        yield "note", note


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def bounds(quality: Quality) -> Table:
    """Tabulate the lower bounds on the coherence and the code's excess over them."""
    table = make_table("bound", "coherence", "above it by", left=("bound",))
    for name, bound in sorted(quality.bounds.items(), key=lambda item: -item[1]):
        if bound > 0:
            more = 100 * (quality.coherence / bound - 1)
            table.add_row(name, f"{bound:.6f}", "reached" if abs(more) < 1e-8 else f"{more:.2f} %")
        else:
            table.add_row(name, "none", "")
    return table


def arrivals(code: Code, quality: Quality) -> Table:
    """Tabulate captured energy and information against the number of arrivals."""
    table = make_table("arrivals", "of k", "captured: least squares", "adjoint", "information")
    last = len(quality.joint) - 1
    for q in sorted({min(max(round(multiple * code.blocks), 1), last) for multiple in MULTIPLES}):
        mean, error = (float(array[q]) for array in quality.least_squares)
        spread = f" ± {100 * error:.1f}" if error >= 0.0005 else ""
        table.add_row(
            str(q), f"{q / code.blocks:.2f}", f"{percent(mean, 1)}{spread} %",
            f"{percent(float(quality.adjoint.mean[q]), 1)} %", f"{quality.joint[q]:.2f}",
        )  # fmt: skip
    return table


def exactness(quality: Quality) -> str:
    """Describe how the curve of least squares is computed."""
    if np.any(quality.least_squares.standard_error):
        return f"sampled over {quality.draws} orders, ± its standard error"
    return f"the same in all of {quality.draws} orders, or exact"
