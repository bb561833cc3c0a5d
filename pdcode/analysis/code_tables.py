"""What `pdcode codes` prints: the families, the catalogue as it was checked, and all about one code."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import isinf
from typing import TYPE_CHECKING

import numpy as np

from ..codes import catalogue
from ..codes.code import Code
from ..codes.quality.summary import NOISE, Quality
from ..codes.registry import FAMILIES, Family
from .formats import number, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TOLERANCE = 1e-12  # of claims
SAMPLES = (4, 8, 9, 16, 64, 256)  # blocks for which the sizes of a family with many are listed
SHOWN, LARGEST = 4, 1000  # sizes, and blocks
USUAL = 4  # weight; of several over so many blocks the size nearest to it is listed
QUARTERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)  # arrivals in units of k


def table(*columns: str, left: Iterable[str] = (), wrap: Iterable[str] = ()) -> Table:
    """A table without lines, its columns flush right but for those in `left`."""
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        justify = "left" if column in left else "right"
        made.add_column(column, justify=justify, no_wrap=column not in wrap)  # type: ignore[arg-type]
    return made


def families(target: Console | None = None) -> None:
    """Print a line or two for each family: what it is, and sizes with their coherence."""
    columns = ("family", "what it is", "sizes (n, k, w) and coherence")
    made = table(*columns, left=columns, wrap=columns[1:])
    for family in FAMILIES.values():
        made.add_row(family.name, family.about, sizes(family))
    made.add_row("auto", "the best of these that exists", "any n, any k, w at most as asked")
    _printed(target, [made])


def sizes(family: Family) -> str:
    """List some sizes of a family with the coherence that it claims."""
    found: list[str] = []
    for k in range(2, LARGEST):
        shapes = list(family.sizes(k, None))
        if not shapes or not (k in SAMPLES or all(size.least == size.most for size in shapes)):
            continue
        size = min(shapes, key=lambda each: (abs(each.weight - USUAL), -each.most))
        n = 2 * k if isinf(size.most) else int(size.most)
        claim = family.coherence(n, k, size.weight)
        least = f"{k}, {2 * k}, …" if size.step > 1 else f"≥{size.least}" if size.least > 1 else "any n"
        rows = least if isinf(size.most) else f"{n}" if size.least == n else f"≤{n}"
        found.append(f"({rows},{k},{size.weight})" + (f" {fraction(claim)}" if claim else ""))
        if len(found) > SHOWN:
            break
    return ", ".join(found[:SHOWN]) + (" …" if len(found) > SHOWN else "")


def fraction(value: float) -> str:
    """A coherence as 1/m where it is that, else with four digits."""
    near = Fraction(value).limit_denominator(10_000)
    exact = abs(float(near) - value) < TOLERANCE and near.numerator == 1
    return str(near) if exact else f"{value:.4f}"


def verified() -> Iterator[tuple[str, bool]]:
    """Check the catalogue; yield a line for each entry, and whether it holds."""
    yield (
        f"{'family':16}{'(n, k, w)':>18}{'claimed':>11}{'measured':>11}{'difference':>12}"
        f"{'tightness':>11}{'error':>9}{'seconds':>9}",
        True,
    )
    for entry in catalogue.ENTRIES:
        start_s = time.perf_counter()
        code, coherence, tightness = catalogue.verify(entry)
        spent_s = time.perf_counter() - start_s
        holds = coherence <= TOLERANCE and abs(tightness) <= TOLERANCE
        claimed = entry.coherence is not None
        difference = f"{coherence:.0e}" if claimed else "–"
        size = f"({entry.workers}, {entry.blocks}, {entry.weight})"
        yield (
            f"{entry.family:16}{size:>18}{fraction(entry.coherence or 0.0) if claimed else '–':>11}"
            f"{fraction(code.coherence):>11}{difference:>12}{code.tightness:>11.6f}"
            f"{f'{abs(tightness):.0e}' if entry.tight else '–':>9}{spent_s:>9.2f}"
            + ("" if holds else "  WRONG"),
            holds,
        )


def show(code: Code, quality: Quality, title: str = "", target: Console | None = None) -> None:
    """Print all about one code."""
    name = (
        f"{code.family}: {len(code)} rows over {code.blocks} blocks, weight {code.weight}, seed {code.seed}"
    )
    about = table("", " ", left=("", " "), wrap=(" ",))
    about.show_header = False
    for topic, text in facts(code, quality):
        about.add_row(topic, text)
    legend = (
        "Captured: share of the energy of isotropic blocks after so many random arrivals; adjoint: exact; "
        f"least squares: {exactness(quality)}. Information: joint, of q random arrivals, a payload's noise "
        f"having {NOISE:g} of its variance; nats for each element of a block. Arrivals for 90 %, 99 %: "
        "where the mean gets there; for all: their mean."
    )
    _printed(target, [about, bounds(quality), arrivals(code, quality), legend], title + name)


def facts(code: Code, quality: Quality) -> Iterator[tuple[str, str]]:
    """What is said in a line each."""
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
    """Each bound on the coherence beside what is reached."""
    made = table("lower bound", "coherence", "above it by", left=("lower bound",))
    for name, bound in sorted(quality.bounds.items(), key=lambda item: -item[1]):
        if bound > 0:
            more = 100 * (quality.coherence / bound - 1)
            made.add_row(name, f"{bound:.6f}", "reached" if abs(more) < 1e-8 else f"{more:.2f} %")
        else:
            made.add_row(name, "none", "")
    return made


def arrivals(code: Code, quality: Quality) -> Table:
    """Captured energy and information at some numbers of arrivals."""
    made = table("arrivals", "of k", "captured: least squares", "adjoint", "information")
    last = len(quality.joint) - 1
    for q in sorted({min(max(round(part * code.blocks), 1), last) for part in QUARTERS}):
        mean, error = (float(array[q]) for array in quality.least_squares)
        spread = f" ± {100 * error:.1f}" if error >= 0.0005 else ""
        made.add_row(
            str(q), f"{q / code.blocks:.2f}", f"{percent(mean, 1)}{spread} %",
            f"{percent(float(quality.adjoint.mean[q]), 1)} %", f"{quality.joint[q]:.2f}",
        )  # fmt: skip
    return made


def exactness(quality: Quality) -> str:
    """How the curve of least squares was found."""
    if np.any(quality.least_squares.standard_error):
        return f"sampled over {quality.draws} orders, ± its standard error"
    return f"the same in all of {quality.draws} orders, or exact"


def _printed(target: Console | None, parts: Iterable[Table | str], title: str = "") -> None:
    """Print parts under a title, without the blanks that rich fills lines up with."""
    from rich.console import Console
    from rich.padding import Padding

    target = target or Console(highlight=False, markup=False, emoji=False)
    with target.capture() as capture:
        if title:
            target.print(title, style="bold", soft_wrap=True)
        for part in parts:
            style = "dim" if isinstance(part, str) else None
            target.print(Padding(part, (0, 0, 1, 2 if title else 0), expand=False), style=style)
    for line in capture.get().splitlines():
        target.file.write(line.rstrip() + "\n")
