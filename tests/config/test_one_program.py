"""One word is one program, and a key of which only one value is possible is filled in."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from outcomes import refused

import pdcode
from pdcode.__main__ import main
from pdcode.config import Config, kinds, legacy
from pdcode.config import load as configfile
from pdcode.config.defaults import Origins
from pdcode.studies.named_candidates import named_candidates

TASK: dict[str, Any] = {"problem": {"kind": "softmax", "batch": 16}, "stop": {"loss": 0.5, "seconds": 0.02}}
OTHERS: dict[str, Any] = {
    "code": {"family": "net", "blocks": 8, "weight": 2},
    "memory": {"kind": "worker"},
    "update": {"mode": "all"},
    "optimizer": {"rate": 0.5, "momentum": 0.5},
}
PENALTY = {"optimizer": {"rate": 0.5, "proximal": {"kind": "l1", "weight": 0.1}}}


def candidate(tables: dict[str, Any], name: str, *overrides: str) -> Config:
    return named_candidates(tables, overrides, Path(), name)[0].config


@pytest.mark.parametrize("tables", [{}, OTHERS, PENALTY, {"scheme": {"name": "topk"}}], ids=str)
def test_the_scheme_without_keys_is_preset_auto_wherever_it_is_said(tables: dict[str, Any]) -> None:
    kept = {"optimizer": {"proximal": PENALTY["optimizer"]["proximal"]}} if tables is PENALTY else {}
    config = configfile.resolve(TASK | kept | {"scheme": {"name": "lwpd", "preset": "auto"}})
    made = [
        configfile.resolve(TASK | tables, ["scheme.name=lwpd"]),
        configfile.resolve(TASK | tables, ['scheme={name="lwpd"}']),
        candidate(TASK | tables, "lwpd"),
        candidate(TASK | tables, "lwpd:auto"),
    ]
    if not tables:
        made.append(configfile.resolve(TASK | {"scheme": {"name": "lwpd"}}))
    assert all(each == config for each in made)


@pytest.mark.parametrize("key", ["code.family=net", "memory.kind=worker", "optimizer.rate=0.5"])
def test_a_key_of_its_tables_makes_it_the_scheme_without_a_preset(key: str) -> None:
    made = configfile.resolve(TASK | OTHERS, ["scheme.name=lwpd", key])
    assert made.scheme.preset is None
    for each in (candidate(TASK, "lwpd", key), candidate(TASK, f"lwpd/{key}")):
        assert (each.scheme, each.code.family) == (made.scheme, "net")


def test_all_names_the_scheme_beside_its_presets() -> None:
    names = [each.name for each in named_candidates(TASK | OTHERS, [], Path(), "all")]
    assert names[:2] == ["yours", "lwpd"]
    assert "lwpd:default" in names


def test_a_comparison_from_python_runs_the_same_program(tmp_path: Path) -> None:
    made = pdcode.compare(
        TASK | OTHERS, ["yours", "lwpd"], seeds=1, tune=3, processes=1, workers=2,
        output=tmp_path / "made.h5", progress=False,
    )  # fmt: skip
    assert 'preset = "auto"' in dict(zip(made.names, made.configs, strict=True))["lwpd"]
    assert "Not tuned, as preset 'auto' chooses by itself: lwpd." in made.notes


NEEDED = {
    "few bits": ({"reduce": {"bits": 8}}, {"update.mode": "all"}),
    "few bits, uncoded": (
        {"scheme": {"name": "uncoded"}, "reduce": {"bits": 8}},
        {"memory.kind": "worker", "update.mode": "all"},
    ),
    "first of a sum": (
        {"scheme": {"name": "uncoded"}, "reduce": {"kind": "allreduce"}, "update": {"mode": "first"}},
        {"update.late": "waste"},
    ),
    "few bits of a preset's": (
        {"scheme": {"preset": "sharded"}, "reduce": {"bits": 8}, "memory": {"kind": "worker"}},
        {"wire.dtype": None},
    ),
    "the kind beside a rate": (
        {"scheme": {"name": "demo"}, "optimizer": {"rate": 0.001}},
        {"optimizer.kind": "sign"},
    ),
    "a penalty without Nesterov": (
        {"scheme": {"preset": "first"}, "optimizer": {"proximal": {"kind": "box", "low": 0.0}}},
        {"optimizer.nesterov": False},
    ),
}


@pytest.mark.parametrize("name", NEEDED)
def test_the_only_possible_value_is_filled_in(name: str) -> None:
    given, needed = NEEDED[name]
    origins = Origins()
    config = configfile.resolve(TASK | given, [], "", origins)
    for key, value in needed.items():
        table, _, last = key.partition(".")
        assert getattr(getattr(config, table), last) == value
        assert origins[key].startswith("needed by ")
        if last in given.get(table, {}):
            continue
        other = {"worker": "none", "all": "async", "waste": "use", "sign": "sgd", None: "int8", False: True}
        mine = {**given.get(table, {}), last: other[value]}
        with refused(f"{key}: ", "does not go with"):
            configfile.resolve(TASK | given | {table: mine})


def test_four_lines_are_enough_for_a_dictionary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.toml"
    path.write_text(
        '[problem]\nkind = "sparse-coding"\ndata = "china-flower"\n[stop]\nupdates = 3\n', encoding="utf-8"
    )
    small = ("workers.count=2", "problem.evaluate=50", "problem.iterations=20")  # rates are tried
    sets = [f"--set={setting}" for setting in small]
    assert main(["run", str(path), "--dry-run", *sets]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "needed by" in line]
    assert [line.partition("#")[2].strip() for line in lines] == [
        "needed by problem.kind 'sparse-coding'",
    ]
    assert main(["simulate", str(path), "-o", str(tmp_path / "o.h5"), *sets]) == 0


def test_a_refusal_names_who_needs_the_value_that_is_not_given() -> None:
    with refused("memory.kind: 'worker' has no effect with scheme 'robust'; ", "needed by reduce.bits 8"):
        configfile.resolve(TASK | {"scheme": {"name": "robust"}, "reduce": {"bits": 8}})
    with refused("downlink.kind: 'exchange'", "; downlink.kind is that of preset default"):
        configfile.resolve(TASK | {"scheme": {"preset": "default"}, "reduce": {"kind": "allreduce"}})


@pytest.mark.parametrize("name", kinds.names("schemes"))
@pytest.mark.parametrize("given", [{"optimizer": {"rate": 0.1}}, {"update": {}}, {"memory": {}}], ids=str)
def test_a_table_without_the_key_that_a_scheme_needs_is_filled_in(name: str, given: dict[str, Any]) -> None:
    """Refused is only what needs a choice."""
    problem = {"kind": "softmax", "dtype": "float64"}
    tables = {"scheme": {"name": name}, "problem": problem, "stop": {"updates": 3}, "workers": {"count": 9}}
    wanted = ""
    try:
        configfile.resolve(tables | given)
    except pdcode.InputError as error:
        wanted = str(error).rpartition("it needs ")[2]
    assert " " in wanted or not wanted


def test_a_recorded_linear_model_has_no_hidden_layers_any_more() -> None:
    """Traces had the default of the key, which is refused in a file."""
    problem = {"kind": "softmax", "hidden": [64], "activation": "relu"}
    recorded = legacy.read({"problem": problem, "stop": {"updates": 3}})
    assert configfile.resolve(msgspec.to_builtins(recorded)).problem.hidden is None
    with refused("problem.hidden: [64] has no effect with problem.kind 'softmax'"):
        configfile.resolve({"problem": problem, "stop": {"updates": 3}})
    assert configfile.resolve({"stop": {"updates": 3}}).problem.hidden == [64]
