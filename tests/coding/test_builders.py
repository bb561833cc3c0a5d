"""From the configuration's tables to codes, rows and decoders; what cannot work is one line before MPI."""

from pathlib import Path

import numpy as np
import origins
import pytest

from pdcode import codes
from pdcode.__main__ import main
from pdcode.config import kinds
from pdcode.config import load as configfile
from pdcode.schemes.common import builders
from pdcode.schemes.common.adaptive import Energy
from pdcode.schemes.common.assignments import Rotating, Static, WorkerSelected
from pdcode.transport.units import Blocks

LAYERS = [
    Blocks(0, "output", 16, 64, 65, 0),
    Blocks(1, "input", 8, 65, 64, 0),
    Blocks(2, "input", 16, 65, 64, 0),
    Blocks(3, "output", 1, 10, 65, 0),
]
BLOCKS = "code.blocks=[16,8,16,1]"
SIZES = {  # blocks that a family has, where it has not 16
    "steiner": 28,
    "simplex-lines": 15,
    "tremain": 15,
    "icosahedron": 15,
}


def create(*overrides: str, workers: int = 8, layers: list[Blocks] = LAYERS) -> object:
    config = configfile.resolve({}, [BLOCKS, *overrides, f"workers.count={workers}"])
    return builders.make_assignment(config, layers, workers)


def test_there_is_one_code_for_each_block_count() -> None:
    made = create()
    assert type(made) is Rotating
    assert sorted(made.designs) == [8, 16]
    assert made.designs[16].family == "net"
    assert made.rows == (1, 1, 1, 1)
    assert type(create("code.rotate=false")) is Static
    ahead = "memory.kind=worker", "memory.lookahead=0.1"
    assert [create(*each).by_worker for each in ((), ahead, (*ahead, "update.mode=all"))] == [
        False, True, False,
    ]  # fmt: skip


def test_rows_are_a_number_a_list_or_a_share() -> None:
    assert create("code.rows_per_task=3").rows == (3, 3, 3, 1)
    assert create("code.rows_per_task=[3, 2, 16, 5]").rows == (3, 2, 16, 1)
    assert create("code.share=0.125").rows == (2, 1, 2, 1)
    assert create("code.share=0.13").rows == (3, 2, 3, 1)
    assert create("code.share=1").rows == (16, 8, 16, 1)


def test_weights_are_a_number_or_a_list() -> None:
    assert create("code.weight=2").weights == [2, 2, 2, 1]
    assert create("code.weight=[4, 2, 4, 1]").weights == [4, 2, 4, 1]
    assert create("code.family=matched").weights == [16, 8, 16, 1]  # of 32, as far as there are blocks
    assert create("code.family=matched", "code.weight=[5, 9, 3, 7]").weights == [5, 8, 3, 1]
    assert create("code.family=energy").weights == [4, 4, 4, 1]


def test_a_code_has_rows_for_all_tasks_of_an_update_or_one_basis() -> None:
    assert len(create("update.mode=async").designs[16]) == 16
    assert len(create("update.mode=all").designs[16]) == 16
    assert len(create("update.mode=all", "code.rows_per_task=4").designs[16]) == 32
    two = {"layers": [LAYERS[0], LAYERS[3]]}
    four = ["code.blocks=[16,1]", "code.rows_per_task=4"]
    assert len(create(*four, "code.rotate=false", **two).designs[16]) == 32
    assert len(create(*four, "code.rows=64", **two).designs[16]) == 64
    # a net over 16 blocks of weight 4 has 5 · 16 rows at the most: more tasks share them
    many = create(*four, "update.mode=all", workers=100, **two)
    assert len(many.designs[16]) == 16


def test_adaptive_families_are_assignments_of_their_own() -> None:
    assert type(create("code.family=matched")) is WorkerSelected
    assert type(create("code.family=energy")) is Energy


@pytest.mark.parametrize(
    ("overrides", "kind", "scale"),
    [
        ([], "AdjointDecoder", 1 / 8),
        (["memory.kind=none"], "AdjointDecoder", 16 / 3),
        (["memory.kind=difference"], "SummingDecoder", 1 / 8),
        (["memory.kind=coordinator"], "TrackingDecoder", 1),
        (["memory.kind=none", "code.family=matched"], "AdjointDecoder", 1 / 8),
        (["memory.kind=none", "decoder.kind=tracking", "decoder.step=0.5"], "TrackingDecoder", 1),
        (["memory.kind=none", "decoder.kind=least_squares"], "LeastSquaresDecoder", 1),
    ],
)
def test_the_decoder_is_what_the_memory_needs(overrides: list[str], kind: str, scale: float) -> None:
    config = configfile.resolve({}, [BLOCKS, *overrides])
    wires, selected = ["float32"] * len(LAYERS), config.code.worker_selected
    made = builders.make_decoders(config, LAYERS, wires, worker_selected=selected)[0]
    assert type(made).__name__ == kind
    for row in range(3):
        made.add(np.eye(16)[row], np.ones(made.block_shape))
    assert made.scale == pytest.approx(scale)
    if kind == "TrackingDecoder":
        assert made.step == config.decoder.step


def dry_run(folder: Path, *overrides: str) -> int:
    """``pdcode run --dry-run`` of a file that says only when to stop."""
    path = folder / "job.toml"
    path.write_text("[stop]\nupdates = 9\n", encoding="utf-8")
    sets = [word for override in overrides for word in ("--set", override)]
    return main(["run", str(path), "--dry-run", *sets])


@pytest.mark.parametrize("mode", ["async", "first"])
@pytest.mark.parametrize("family", sorted({*codes.FAMILIES, "auto", *kinds.KINDS["codes"]} - {"file"}))
def test_every_family_can_be_configured(family, mode, tmp_path, capsys):
    blocks = SIZES.get(family, 16)
    sets = [f"code.family={family}", f"code.blocks=[{blocks},1]", f"update.mode={mode}"]
    if family == "optimized":
        sets += ["code.blocks=[4,1]", "code.options.restarts=1"]
    assert dry_run(tmp_path, *sets) == 0
    printed = capsys.readouterr().out
    found = {"matched": "worker-selected", "auto": "#   k=16: net"}
    assert found.get(family, f": {family}, ") in printed


def test_the_options_of_a_family_are_printed_as_they_are_read(tmp_path, capsys):
    sets = ["code.family=random", "code.options.entries=gaussian", "code.weight=3"]
    assert dry_run(tmp_path, *sets) == 0
    text = capsys.readouterr().out
    again = tmp_path / "again.toml"
    again.write_text(text, encoding="utf-8")
    assert main(["run", str(again), "--dry-run"]) == 0
    assert origins.removed(capsys.readouterr().out) == origins.removed(text)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["code.family=nett"], ["code.family: expected one of", "'nett'", "net", "auto", "matched"]),
        (["code.options.foo=1"], ["code.family", "net", "foo = 1"]),
        (["code.options.seed=3"], ["code.options.seed: not an option of a code"]),
        (["code.family=optimized", "code.options.progress=1"], ["code.options.progress: not an option"]),
        (["code.family=matched", "code.options.foo=1"], ["code.options", "foo", "matched"]),
        (["code.family=energy", "code.options.foo=1"], ["code.options.foo", "1", "exponent"]),
        (["code.family=energy", "code.options.exponent=-1"], ["exponent = -1"]),
        (["code.family=energy", "code.rotate=false"], ["code.rotate", "energy"]),
        (["code.family=matched", "code.rows=8"], ["code.rows", "8", "matched"]),
        (["code.weight=[4,4,4]"], ["code.weight: [4, 4, 4]", "3 entries", "2 layers"]),
        (["code.weight=[4,2]", "code.blocks=16"], ["code.weight", "16 blocks", "4 and 2"]),
        (["code.family=energy", "code.weight=[4,2]", "code.blocks=16"], ["code.weight", "4 and 2"]),
        (["code.weight=17"], ["code.weight: 17", "above the number of blocks, 16"]),
        (["code.rows_per_task=[1,2,3]"], ["code.rows_per_task: [1, 2, 3]", "2 layers"]),
        (["code.rows_per_task=17"], ["code.rows_per_task: 17", "16 blocks"]),
        (["code.rows=4", "code.rows_per_task=8"], ["code.rows_per_task: 8", "4 rows"]),
        (["code.share=0.5", "code.rows_per_task=2"], ["code.share: 0.5", "code.rows_per_task"]),
        (["code.share=1.5"], ["code.share", "1.5"]),
        (["code.blocks=unit"], ["code.blocks", "units", "'unit'"]),
        (["code.blocks=[16]"], ["code.blocks: [16]", "2 layers"]),
        (["code.family=steiner"], ["code.family", "steiner", "nearest"]),
        (["code.decay=1.0"], ["code.decay", "1.0"]),
        (["code.foo=1"], ["code.foo", "unknown key", "rows_per_task"]),
        (["update.mode=first", "update.count=9"], ["update.count: 9", "8 workers"]),
        (["problem.axis=['auto']"], ["problem.axis: ['auto']", "2 layers"]),
    ],
)
def test_bad_input_is_one_line_that_names_key_and_value(overrides, words, tmp_path, capsys):
    assert dry_run(tmp_path, *overrides) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert str(tmp_path / "job.toml") in captured.err
    for word in words:
        assert word in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("code.weight=2147483647", "code.weight: 2147483647 is above the number of blocks, 16"),
        ("code.blocks=1000000000", "code.blocks: 1000000000 is more than the 4160 parameters of layer 0"),
        ("workers.count=2147483647", "workers.count: 2147483647 is more than the 65536 workers"),
    ],
)
def test_claimed_sizes_are_refused_at_once(override, words, tmp_path, capsys):
    assert dry_run(tmp_path, override) == 2
    assert words in capsys.readouterr().err
