"""Reading configurations: defaults, overrides, and errors of one line that name file, key and value."""

import copy
import os
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import refused
from paths import JOBS

from pdcode.config import Config, kinds
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.schemes.lwpd import LWPD
from pdcode.util.errors import InputError
from pdcode.virtual import costs


def write(folder: Path, text: str) -> Path:
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_is_the_default_scheme(tmp_path: Path) -> None:
    config, text = configfile.load(write(tmp_path, ""))
    assert text == ""
    assert (config.scheme.name, config.scheme.preset) == ("lwpd", "auto")
    plain = configfile.resolve({"memory": {"kind": "worker"}})
    assert (plain.scheme.name, plain.code.family, plain.memory.kind) == ("lwpd", "net", "worker")


def test_a_scheme_fills_in_only_the_tables_that_are_not_given() -> None:
    config = configfile.resolve({"scheme": {"name": "uncoded"}, "memory": {"kind": "worker"}})
    assert (config.code.family, config.code.blocks, config.memory.kind) == ("uncoded", 1, "worker")


def test_a_scheme_can_be_chosen_on_the_command_line() -> None:
    assert configfile.resolve({}, ["scheme.name=uncoded"]).code.family == "uncoded"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("update.mode=all", "all"),
        ("update.mode='all'", "all"),
        ("problem.l2=0.5", 0.5),
        ("code.blocks=[8, 1]", [8, 1]),
        ("seed=7", 7),
    ],
)
def test_overrides_are_toml_values_or_plain_strings(override: str, value: object) -> None:
    found: object = configfile.resolve({}, [override])
    for name in override.partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value


RELAYED = "memory = {}\ndownlink.kind = 'codewords'\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[code]\nblocks = 'four'", ["code.blocks", "'four'"]),
        ("[code]\nblocks = 0", ["code.blocks", "0"]),
        ("[code]\nblock = 4", ["code.block", "unknown key"]),
        ("[codes]\nblocks = 4", ["codes", "unknown key"]),
        ("seed = -1", ["seed", "-1"]),
        ("seed = ", ["not TOML"]),
        ("code = 3", ["code", "3"]),
        ("[problem]\nhidden = [64, 0]", ["problem.hidden", "[64, 0]"]),
        ("[problem]\ndata = 5", ["problem.data", "expected text", "5"]),
        ("[update]\nmode = 'sometimes'", ["update.mode", "sometimes"]),
        ("[update]\nmode = 'all'\ncount = 3", ["update.count", "3", "all"]),
        ("[stragglers]\nkind = 'slow-set'\nslow = [8]", ["stragglers.slow", "8"]),
        ("[stragglers]\nkind = 'shifted-exponential'", ["stragglers.mean_s", "must be given"]),
        ("[memory]\nkind = 'worker'\n[decoder]\nkind = 'tracking'", ["decoder.kind", "tracking"]),
        ("[update]\nlate = 'sometimes'", ["update.late", "sometimes"]),
        ("memory.kind = 'difference'\ndecoder.kind = 'tracking'", ["decoder.kind", "difference", "tracking"]),
        ("memory.kind = 'coordinator'\ndecoder.kind = 'adjoint'", ["decoder.kind", "coordinator", "adjoint"]),
        ("[optimizer]\nstaleness = 'inverse'", ["optimizer.staleness", "inverse", "memory.kind 'worker'"]),
        ("[wire]\ndtype = 'float64'", ["wire.dtype", "float64"]),
        ("[wire]\ndtype = ['int8', 'float64']", ["wire.dtype", "float64"]),
        ("[wire]\ndtype = ['int8', 'int3']", ["wire.dtype", "int3", "int4"]),
        ("[wire]\ndtype = 'int3'", ["wire.dtype", "int4", "int8"]),
        ("[downlink]\nkind = 'relay'", ["downlink.kind", "relay", "codewords"]),
        ("[downlink]\ncheck = 0", ["downlink.check", "0"]),
        (f"{RELAYED}decoder.kind = 'least_squares'", ["downlink.kind", "codewords", "least_squares"]),
        (f"{RELAYED}decoder.kind = 'mmse'", ["downlink.kind", "codewords", "mmse"]),
        ("[decoder]\nkind = 'summing'", ["decoder.kind", "summing"]),
        ("[decoder]\nstep = 1.5", ["decoder.step", "1.5"]),
        ("[code]\nblocks = 'unit'", ["code.blocks", "'unit'", "units"]),
        ("[code]\nblocks = ['units', 1]", ["code.blocks", "'units'"]),
        ("[code]\nshare = 0.0", ["code.share", "0.0"]),
        ("[code]\nweight = [4, 0]", ["code.weight", "[4, 0]"]),
        ("[scheme]\npreset = 'fast'", ["scheme.preset", "'fast'", "starved"]),
        ("[scheme]\nname = 'uncoded'\npreset = 'default'", ["scheme.preset", "uncoded", "default"]),
        ("[[faults.events]]\nworker = 8\nat_s = 1.0", ["faults.events: kind 'kill'", "worker 8 does not"]),
        ("[[faults.events]]\nworker = 7", ["faults.events: kind 'kill', worker 7: give either at_s or task"]),
        ("[[faults.events]]\nkind = 'nap'", ["faults.events.kind: expected one of kill, exit", "'nap'"]),
        ("[[faults.events]]\nkind = 'slow'\nwarp = 9", ["faults.events.warp: unknown key"]),
        ("[[faults.events]]\nkind = 'full-disk'", ["kind 'full-disk': at_s: must be given"]),
        ("[faults]\nmtbf_s = 1.0\nfailure = {worker = 1}", ["faults.failure.worker"]),
    ],
)
def test_errors_name_file_key_and_value_in_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with refused(*words, start=f"{path}: "):
        configfile.load(path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["stragglers.kind=pareto", "stragglers.shift_s=1", "stragglers.shape=2"], None),  # not of the file's
        (["stragglers.kind=none"], None),
        (["stragglers.kind=none", "stragglers.shift_s=1.0"], ["stragglers.shift_s: kind 'none' has", "1.0"]),
        (["stragglers.probability=0.5"], ["stragglers.probability", "0.5", "'bimodal' has it"]),
        (["code.family=matched"], None),
        (
            ["code.family=matched", "code.rotate=true"],
            ["code.rotate: family 'matched'", "True", "'file' and 'net' have it"],
        ),
        (["memory.kind=coordinator", "decoder.step=0.5"], None),
        (["decoder.step=0.5"], ["decoder.step: kind 'adjoint'", "0.5"]),
        (["stragglers.kind=tides"], ["stragglers.kind", "slow-set", "'tides'"]),
    ],
)
def test_keys_are_those_of_the_kind(overrides: list[str], words: list[str] | None) -> None:
    """A kind that is chosen on the command line does without what the file says of another."""
    with refused(*words) if words else nullcontext():
        configfile.load(JOBS / "digits.toml", overrides)


@pytest.mark.parametrize(
    ("tables", "override", "message"),
    [
        (
            {"problem": {"kind": "mlp", "batchsize": 8}},
            "problem.kind=softmax",
            "problem.batchsize: unknown key",
        ),
        ({"optimizer": {"kind": "adam", "lr": 0.1}}, "optimizer.kind=sgd", "optimizer.lr: unknown key"),
        ({"code": {"wieght": 4}}, "scheme.preset=default", "code.wieght: unknown key"),
        ({"memory": {"kind": "worker", "keeps": 1}}, "scheme.preset=ring", "memory.keeps: unknown key"),
    ],
)
def test_a_key_of_no_kind_is_refused_whatever_is_chosen(
    tables: dict[str, Any], override: str, message: str
) -> None:
    with refused(start=message):
        configfile.resolve({**tables, "stop": {"updates": 1}}, [override])


@pytest.mark.parametrize("override", ["update.mode", "=all", "update..mode=all", "seed.x=1", "nothing=1"])
def test_bad_overrides_are_named(override: str) -> None:
    with pytest.raises(InputError, match=override.partition("=")[0] or "--set"):
        configfile.resolve({"seed": 1}, [override])


def test_given_tables_are_not_changed() -> None:
    tables = {"code": {"options": {"dither": True}}, "scheme": {"preset": "default", "options": {}}}
    before, presets = copy.deepcopy((tables, LWPD.presets))
    configfile.resolve(tables, ["code.family=net", "code.options.dither=false", "downlink.check=9"])
    assert (tables, LWPD.presets) == (before, presets)


@pytest.mark.parametrize("path", ["", ".", "..", "/", "results/.."])
def test_a_trace_has_a_name(path: str) -> None:
    with pytest.raises(InputError, match=r"trace\.path: .* is not the name of a file"):
        configfile.resolve({"stop": {"updates": 1}, "trace": {"path": path}})


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: No such file"):
        configfile.load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        configfile.load(tmp_path / "latin.toml")
    os.mkfifo(tmp_path / "pipe")
    for load in (configfile.load, lambda path: costs.load(path, Config())):
        with pytest.raises(InputError, match=r"pipe: a named pipe, not a file"):
            load(tmp_path / "pipe")


def test_a_file_may_be_a_pipe_of_a_shell() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"seed = 5")
    os.close(writer)
    assert configfile.load(f"/dev/fd/{reader}")[0].seed == 5
    os.close(reader)


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_job_is_valid(path: Path) -> None:
    config, _ = configfile.load(path)
    assert config.trace.path.startswith("results/")


@given(
    st.builds(
        dict,
        seed=st.integers(0, 2**40),
        problem=st.builds(
            dict,
            hidden=st.lists(st.integers(1, 99), max_size=3),
            l2=st.floats(0, 1),
            axis=st.sampled_from(["auto", "input"]),
        ),
        code=st.builds(
            dict,
            blocks=st.integers(1, 64)
            | st.lists(st.integers(1, 64), min_size=1, max_size=3)
            | st.just("units"),
            rotate=st.booleans(),
            options=st.dictionaries(
                st.sampled_from(["dither", "entries", "a b"]),
                st.booleans() | st.integers(0, 9) | st.text(max_size=5),
            ),
        ),
        scheme=st.builds(dict, preset=st.just("default")) | st.just({}),
        wire=st.builds(dict, dtype=st.sampled_from(["float32", "bfloat16", "int8"])),
        optimizer=st.builds(dict, rate=st.floats(1e-6, 10), momentum=st.floats(0, 0.99)),
        stop=st.builds(dict, updates=st.integers(1, 10**9)),
    )
)
def test_the_dry_run_prints_a_configuration_that_reads_back_the_same(tables: dict[str, object]) -> None:
    config = configfile.resolve(tables)
    assert isinstance(config, Config)
    assert configfile.resolve(tomllib.loads(to_toml(config))) == config


@pytest.mark.parametrize("group", kinds.KINDS)
def test_every_kind_is_where_the_registry_says(group: str) -> None:
    for name, place in kinds.KINDS[group].items():
        if isinstance(place, str):  # else it is a plug-in of another test
            found = kinds.find(group, name)
            assert callable(found) if group in ("readers", *kinds.FUNCTIONS) else found.name_of() == name
            assert kinds.find(group, name).__doc__
