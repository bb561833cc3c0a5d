"""The ablation: its variants, and what its table says that a part is worth."""

import math
from pathlib import Path

import numpy as np
import pytest
import tuning

from benchmarks import schemes
from experiments import ablation
from pdcode.__main__ import run_command
from pdcode.studies.comparison import Comparison
from pdcode.studies.measurement import Measured
from pdcode.studies.tuning import Tuning
from pdcode.util.formats import ratio
from pdcode.util.processes import Pool


@pytest.mark.parametrize(
    ("parts", "held", "lost"),
    [
        (ablation.EVERY, "optimizer.rate=2", "memory.kind=none"),
        (set(), "memory.kind=none/optimizer.momentum=0.9", "memory.lookahead"),
        (ablation.STEPS, "memory.kind=none/optimizer.momentum=0.7", "code.whiten=none"),
        ({"centring"}, "code.whiten=none/optimizer.average=false", "code.centre=false"),
        ({"two bits"}, "memory.lookahead=0", "memory.kind=none"),
        ({"asynchrony"}, "memory.kind=none/optimizer.rate=0.0938", "momentum"),
        (ablation.EVERY - {"asynchrony"}, "update.mode=first/optimizer.momentum=0.7", "update.late"),
    ],
)
def test_variants_have_the_memory_momentum_and_rate_of_their_parts(parts, held, lost):
    name = ablation.variant(parts)
    assert held in name
    assert lost not in name


def test_both_orders_lead_from_plain_descent_to_the_preset():
    for chain in zip(*map(ablation.steps, ablation.PARTS), strict=True):
        ends = [end for _, end in chain]
        assert ablation.WHOLE in ends
    _, forward, backward = zip(*map(ablation.steps, ablation.PARTS), strict=True)
    for chain in (forward, backward[::-1]):
        assert chain[0][0] == ablation.PLAIN
        assert chain[-1][1] == ablation.WHOLE
        assert [end for _, end in chain[:-1]] == [start for start, _ in chain[1:]]


def runs(**times: list[float]) -> dict[str, list[Measured]]:
    """Return runs with these times; a negative one missed the target then."""
    return {
        name: [Measured(seconds=t if t > 0 else math.inf, stop_s=abs(t)) for t in own]
        for name, own in times.items()
    }


@pytest.mark.parametrize(
    ("without", "having", "text"),
    [
        ([4.0, 1.0], [2.0, 0.5], "2.00× (2.00 – 2.00)"),
        ([4.0, 1.0, 2.0], [1.0, 1.0, 1.0], "2.00× (0.36 – 11.19)"),
        ([-4.0, 1.0], [1.0, 1.0], "> 2.00×"),
        ([4.0, 1.0], [1.0, -1.0], "< 2.00×"),
        ([-4.0, 1.0], [1.0, -1.0], "–"),
        ([4.0], [2.0], "2.00×"),
    ],
)
def test_worth_is_a_ratio_of_times_or_a_bound(without, having, text):
    made = runs(without=without, having=having)
    assert ablation.worth(made, [("without", "having")]) == text
    if text.endswith("2.00)"):  # two equal steps: their geometric mean is that of one
        assert ablation.worth(made, [("without", "having")] * 2, 0.5) == text
        assert ablation.worth(made, [("without", "having")] * 2) == "4.00× (4.00 – 4.00)"


def test_settings_are_chosen_under_the_first_delays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def once(
        path: Path, request: object, *more: object, tune: object, rates: Path | None, **_: object
    ) -> None:
        seen.append((path.name, tune is not None, rates and rates.name))

    monkeypatch.setattr(schemes, "perform_once", once)
    monkeypatch.setattr(schemes, "_estimate", lambda bench, cells: "")
    delays = {name: schemes.DELAYS[name] for name in ("none", "persistent")}
    bench = schemes.SchemesBench(
        ["digits"], ["1G"], delays, 1, Tuning(3), ["uncoded"], tmp_path, tune_once=True
    )
    with Pool(1) as pool:
        schemes.perform(bench, "", pool, lambda line: None)
    assert seen == [
        ("digits-1G-none.h5", True, None),
        ("digits-1G-persistent.h5", False, "digits-1G-none.h5"),
    ]


@pytest.mark.slow
def test_products_of_both_orders_are_the_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(schemes.PROBLEMS, "digits", ({"data": "digits", "hidden": [16]}, 2.0, 0.1))
    monkeypatch.setattr(ablation, "MAX_PAYLOADS", 300)
    tuning.without_runs(monkeypatch)
    command = ["--problems", "digits", "--links", "1G", "--delays", "none"]
    command += ["--seeds", "2", "--tune", "3", "--processes", "1", "-o", "made"]
    assert run_command(command, ablation.parser()) == 0
    text = capsys.readouterr().out
    made = Comparison.load("made/digits-1G-none.h5")
    assert made.names == ablation.candidates()
    families = [config.code.family for config in made.read_configs("")]
    assert families[:2] == ["uncoded", "auto"]
    logs = {
        name: np.log([run.spent_s for run in own])
        for name, own in zip(made.names, made.measured, strict=True)
    }
    lead = math.exp((logs[ablation.PLAIN] - logs[ablation.WHOLE]).mean())
    away = math.exp(
        sum((logs[ablation.taken_away(p)[0]] - logs[ablation.WHOLE]).mean() for p in ablation.PARTS)
    )
    alone = logs[ablation.variant(ablation.STEPS)] + logs[ablation.variant(ablation.EVERY - ablation.STEPS)]
    explained = math.exp((alone - 2 * logs[ablation.WHOLE]).mean())
    rows = {line.strip().partition("  ")[0]: line for line in text.splitlines()}
    assert rows["product"].count(ratio(lead)) >= 3
    assert ratio(away) in rows["product"]
    assert ratio(explained) in rows["steps, payloads, look-ahead"]
    assert ratio(explained / lead) in rows["… over the lead"]
