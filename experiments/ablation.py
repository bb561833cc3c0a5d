"""Worth of each part of the preset `default`.

Parts are taken away from the preset one by one, and added one by one to plain stochastic gradient descent, in
the order of `PARTS` and in the reverse order. Each variant is the preset with some keys changed, and a
candidate of `python -m benchmarks schemes`, whose cells and delays these are. For each problem and link the
learning rate of each is chosen by the same number of runs, under the first delays.
"""

import argparse
import itertools
import math
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pdcode.util import threads

if __name__ == "__main__":
    threads.limit(os.environ)  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import schemes
from benchmarks.schemes import WORKERS, SchemesBench
from pdcode.__main__ import run_command
from pdcode.analysis import printing
from pdcode.cli import arguments
from pdcode.studies.cells import describe_time
from pdcode.studies.comparison import Comparison
from pdcode.studies.measurement import Measured
from pdcode.studies.ranking import Row, compare_times, geometric_interval
from pdcode.studies.tuning import Tuning
from pdcode.util.formats import DASH, ratio, span
from pdcode.util.output import print_line
from pdcode.util.processes import Pool

PRESET = "lwpd:default/code.family=uncoded/code.whiten=norm/code.centre=true"
"""The preset with blocks in turn; codewords in their place are one of `REPLACEMENTS`."""

MAX_PAYLOADS = 3000  # payloads of a run, at most

PARTS: Mapping[str, str] = {
    "equal lengths": "code.whiten=none",
    "centring": "code.centre=false",
    "averages": "optimizer.average=false",
    "partial gradients": "code.share=1.0",
    "asynchrony": "update.mode=first",
    "two bits": "wire.dtype=float16",
    "look-ahead": "memory.lookahead=0",
    "exchange": "downlink.kind=full",
}
"""Parts of the preset, and the keys without each."""

EVERY = frozenset(PARTS)
STEPS = frozenset(("equal lengths", "centring", "averages"))
"""Parts that make better steps; the others make payloads shorter and waiting rare."""


def variant(parts: Collection[str], *changes: str) -> str:
    """Return the candidate with these parts of the preset, and further keys changed.

    Where payloads are neither partial nor rounded there are no residuals, so no memory and no look-ahead.
    Where rank 0 waits for payloads it has Nesterov's momentum, as our presets and the rivals that wait, and
    late payloads are dropped if no memory takes them back. The rate is the first that is tried.
    """
    memory = not {"partial gradients", "two bits"}.isdisjoint(parts)
    equal, waits = "equal lengths" in parts, "asynchrony" not in parts
    momentum = 0.0 if not waits else 0.7 if equal else 0.9
    rate = (2.0 if equal else 1.5) * (1 - momentum) / (1 if memory or waits else WORKERS)
    lost = [PARTS[each] for each in PARTS if each not in parts and (memory or each != "look-ahead")]
    lost += [] if memory else ["memory.kind=none"]
    if waits:
        lost += [f"optimizer.momentum={momentum}", "optimizer.nesterov=true"]
        lost += [] if memory else ["update.late=waste"]
    return "/".join([PRESET, *lost, *changes, f"optimizer.rate={rate:.3g}"])


WHOLE, PLAIN = variant(EVERY), variant(())

REPLACEMENTS: Mapping[str, str] = {
    "codewords of weight 4": variant(EVERY, "code.family=auto", "code.weight=4"),
    "relay by rank 0": variant(EVERY, "downlink.kind=codewords"),
    "waiting for all": variant(EVERY - {"asynchrony"}, "update.mode=all"),
}
"""Changes of the preset that replace a part by another, and their candidates."""

Step = tuple[str, str]
"""Two candidates, without a part and with it."""


LENGTHS: Step = PLAIN, variant(STEPS)
"""Equal lengths, centring and averages as one part, added to plain descent."""
TOGETHER: Step = variant(STEPS), variant(EVERY - {"look-ahead"})
"""Partial gradients, asynchrony, two bits and exchange as one part, which look-ahead comes after."""


def taken_away(part: str) -> Step:
    """Return the preset without the part, and the preset."""
    return variant(EVERY - {part}), WHOLE


def added(part: str, order: Sequence[str]) -> Step:
    """Return plain descent with the parts that come before this one in the order, and the parts with it."""
    place = order.index(part)
    return variant(order[:place]), variant(order[: place + 1])


def steps(part: str) -> tuple[Step, Step, Step]:
    """Return the part taken away from the preset, added in the order of `PARTS`, and in the reverse order."""
    return taken_away(part), added(part, [*PARTS]), added(part, [*PARTS][::-1])


def candidates() -> list[str]:
    """Return the names of all variants, the preset first."""
    pairs = itertools.chain.from_iterable(steps(part) for part in PARTS)
    more = variant(EVERY - STEPS), *LENGTHS, *TOGETHER
    every = [WHOLE, *REPLACEMENTS.values(), *itertools.chain.from_iterable(pairs), *more]
    return list(dict.fromkeys(every))


def worth(runs: Mapping[str, Sequence[Measured]], compared: Sequence[Step], power: float = 1.0) -> str:
    """Describe the times without parts over the times with them: the geometric mean over the seeds.

    Of several steps it is the product to this power, seed by seed: of two, a half gives the geometric mean.
    """
    pairs = [(runs[without], runs[having]) for without, having in compared]
    found = [compare_times(*pair) for pair in pairs]
    bounds = {each.bound for each in found} - {""}
    if any(math.isnan(each.ratio.mean) for each in found) or len(bounds) > 1:
        return DASH  # both runs of a step missed the target, or bounds from both sides
    logs = [[math.log(a.spent_s / b.spent_s) for a, b in zip(*pair, strict=True)] for pair in pairs]
    made = geometric_interval(np.exp(power * np.sum(logs, axis=0)).tolist())
    if bounds or not made.known:
        return f"{''.join(bounds)} {ratio(made.mean)}".strip()
    return f"{ratio(made.mean)} ({span(f'{made.low:.2f}', f'{made.high:.2f}')})"


def payloads(runs: Mapping[str, Sequence[Measured]], step: Step) -> str:
    """Describe the ratio of payloads without a part to payloads with it, if all runs reached the target."""
    without, having = (runs[name] for name in step)
    if not all(run.reached for run in (*without, *having)):
        return DASH
    pairs = zip(without, having, strict=True)
    return ratio(geometric_interval([a.arrivals / b.arrivals for a, b in pairs]).mean)


def show(bench: SchemesBench) -> None:
    """Print for each cell what each part is worth, and how far the parts explain the lead."""
    sections: list[printing.Section] = []
    for problem, link, name in itertools.product(bench.problems, bench.links, bench.delays):
        made = Comparison.load(bench.file(problem, link, name))
        runs = dict(zip(made.names, made.measured, strict=True))
        table = printing.make_table(
            "part", "taken away", "payloads", "added in order", "added in reverse", "mean of both",
            left=("part",), fold=False,
        )  # fmt: skip
        for part in PARTS:
            away, forward, backward = steps(part)
            table.add_row(
                part, worth(runs, [away]), payloads(runs, away), worth(runs, [forward]),
                worth(runs, [backward]), worth(runs, [forward, backward], 0.5),
            )  # fmt: skip
        every = [worth(runs, chain) for chain in zip(*map(steps, PARTS), strict=True)]
        table.add_row("product", every[0], "", *every[1:], worth(runs, [(PLAIN, WHOLE)]))
        table.add_section()
        away = variant(EVERY - STEPS), WHOLE
        explained = [away, TOGETHER, taken_away("look-ahead")]
        table.add_row("steps", worth(runs, [away]), payloads(runs, away), worth(runs, [LENGTHS]))
        table.add_row("payloads", worth(runs, [TOGETHER]), payloads(runs, TOGETHER))
        table.add_row("steps, payloads, look-ahead", worth(runs, explained))
        # The other two, and steps added to plain descent, make the lead.
        table.add_row("… over the lead", worth(runs, [away, LENGTHS[::-1]]))
        table.add_section()
        for what, other in REPLACEMENTS.items():
            table.add_row(what, worth(runs, [(other, WHOLE)]), payloads(runs, (other, WHOLE)))
        times = (describe_time(Row(each, runs[each])) for each in (WHOLE, PLAIN))
        sections.append(("{}, {}bit/s, {}: preset {}, plain {}".format(problem, link, name, *times), [table]))
    printing.show([*sections, ("", [printing.note(LEGEND)])])


LEGEND = (
    "Times to the target without a part as multiples of times with it, and 95 % intervals over the seeds, "
    "in pairs; >: runs without it missed the target, <: runs with it did. Each variant has the best of the "
    "same number of learning rates, chosen under the first delays. The second column has the numbers of "
    "payloads, likewise. Taken away: from the preset with blocks in turn. Added: to plain descent by the "
    "first three quarters of full 16-bit gradients at the newest θ, with Nesterov's momentum and θ in each "
    "task; one by one, in order from the first row to the last, in reverse from the last to the first. The "
    "product of the parts that are added is the lead over plain descent, by construction; the mean of both "
    "orders estimates each part's Shapley value. Parts that pay only together make the product of those "
    "taken away differ from the lead. Steps: equal lengths, centring and averages as one part; payloads: "
    "partial gradients, asynchrony, two bits and exchange, without look-ahead, which needs their residuals; "
    "below them the product of the three parts, and that over the lead: what steps are worth in the preset "
    "over what they are worth in plain descent. "
    "Last, blocks, exchange and asynchrony are replaced."
)


def parser() -> arguments.Parser:
    """Return the parser of the options."""
    bench = arguments.Parser(
        prog="python experiments/ablation.py",
        description="What each part of the preset `default` is worth on the virtual clock, by problem, link "
        "and delays. Parts are taken away from the preset one by one, and added one by one to plain descent. "
        "Cells and files are as of `python -m benchmarks schemes`; existing files "
        "are not computed again. Exit codes: 0 done, 1 failure, 2 bad input.",
        epilog="example: python experiments/ablation.py --problems digits --links 1G --seeds 3",
    )
    schemes.add_cells(bench, "mnist5k", "1G,100M,10M", "none,persistent")
    what = "a candidate's learning rate is chosen for each problem and link, under the first delays"
    schemes.add_runs(bench, "tune", 5, what, "results/ablation")
    bench.set_defaults(function=run, alone="experiments/ablation.py")
    return bench


def run(options: argparse.Namespace) -> int:
    """Run the comparisons, and print a table for each cell."""

    arguments.ensure_in_range(options)
    bench = schemes.SchemesBench(
        *schemes.chosen_cells(options),
        options.seeds,
        Tuning(options.tune, with_knobs=False),
        candidates(),
        Path(options.output),
        payloads=MAX_PAYLOADS,
        tune_once=True,
    )
    with Pool(options.processes) as pool:
        schemes.perform(bench, options.command, pool, print_line)
    show(bench)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], parser()))
