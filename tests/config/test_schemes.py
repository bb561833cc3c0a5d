"""Schemes and presets: what they fill in, what they leave alone, and that they learn."""

import pytest
from descents import Descent
from paths import JOBS

from pdcode.config import kinds
from pdcode.config import load as configfile
from pdcode.schemes.lwpd import LWPD
from pdcode.util.errors import InputError

PRESET = (
    "default", "starved", "ring", "sharded", "sharded-first", "orthogonal", "first", "regression", "shards",
    "small-regression", "whitened-regression", "deep-regression", "ring-regression", "sharded-regression",
    "orthogonal-network",
)  # fmt: skip


def resolve(tables: dict[str, object], *overrides: str) -> configfile.Config:
    return configfile.resolve(tables, overrides)


def test_all_presets_are_known_here() -> None:
    assert set(LWPD.presets) == set(PRESET)


@pytest.mark.parametrize("name", kinds.names("schemes"))
def test_every_preset_resolves(name: str) -> None:
    for preset in kinds.find("schemes", name).presets:
        assert resolve({"scheme": {"name": name, "preset": preset}}).scheme.preset == preset


@pytest.mark.parametrize("name", PRESET)
@pytest.mark.parametrize("how", ["file", "command line"])
def test_a_preset_fills_in_all_keys_that_are_not_given(name: str, how: str) -> None:
    tables = {"scheme": {"preset": name}} if how == "file" else {}
    overrides = [] if how == "file" else [f"scheme.preset={name}"]
    config = resolve(tables, *overrides)
    assert config.scheme.preset == name
    for key, table in LWPD.presets[name].items():
        for option, value in table.items():
            assert getattr(getattr(config, key), option) == value


def test_a_given_key_takes_precedence_over_a_preset_in_the_same_file() -> None:
    config = resolve({"scheme": {"preset": "default"}, "code": {"weight": 2}, "wire": {"dtype": "float32"}})
    assert (config.code.weight, config.code.blocks, config.code.rows_per_task) == (2, "units", "auto")
    assert (config.wire.dtype, config.downlink.kind) == ("float32", "exchange")


@pytest.mark.parametrize("name", [name for name in PRESET if name != "ring"])
@pytest.mark.parametrize("key", ["code.share=0.5", "code.rows_per_task=3"])
@pytest.mark.parametrize("how", ["file", "command line"])
def test_an_alternative_key_takes_precedence_over_a_preset(name: str, key: str, how: str) -> None:
    option, _, value = key.partition("=")
    given = {"code": {option.partition(".")[2]: float(value) if "." in value else int(value)}}
    config = (
        resolve({"scheme": {"preset": name}} | given)
        if how == "file"
        else resolve({}, f"scheme.preset={name}", key)
    )
    expected = (0.5, None) if "share" in key else (None, 3)
    assert (config.code.share, config.code.rows_per_task) == expected


def test_a_preset_has_no_rows_where_nothing_is_coded() -> None:
    for how in ({"code": {"blocks": 1}}, {}):
        config = resolve({"scheme": {"preset": "default"}} | how, *([] if how else ["code.blocks=1"]))
        assert (config.code.share, config.code.rows_per_task) == (None, None)


def test_the_weight_of_one_family_is_not_that_of_another() -> None:
    assert resolve({}, "code.family=dk").code.weight is None
    assert resolve({}, "scheme.preset=default", "code.family=hadamard").code.weight is None
    assert resolve({"code": {"family": "dk"}}, "scheme.preset=shards").code.family == "matched"
    assert resolve({"code": {"family": "dk", "weight": 2}}, "scheme.preset=shards").code.weight is None


def test_a_preset_on_the_command_line_overrides_the_file() -> None:
    config, _ = configfile.load(JOBS / "digits.toml", ["scheme.preset=default", "code.weight=2"])
    assert (config.code.blocks, config.code.share, config.code.rows_per_task) == ("units", None, "auto")
    assert (config.code.weight, config.wire.dtype, config.optimizer.rate) == (
        2,
        "int2",
        2.0,
    )  # a rate of its own
    config, _ = configfile.load(
        JOBS / "starved.toml", ["scheme.preset=ring-regression", "optimizer.rate=0.2"]
    )
    assert (config.optimizer.rate, config.optimizer.momentum, config.code.whiten) == (0.2, 0.3, "none")


def test_a_scheme_and_its_preset_on_the_command_line() -> None:
    config = resolve({"scheme": {"name": "uncoded"}}, "scheme.name=lwpd", "scheme.preset=starved")
    assert (config.scheme.name, config.code.share) == ("lwpd", 0.03125)


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("{name='uncoded'}", ["scheme.name=uncoded"]),
        ("{name='local', options={steps=3}}", ["scheme.name=local", "scheme.options.steps=3"]),
        ("{name='topk'}", ["scheme.name=topk"]),
        ("{name='cyclic'}", ["scheme.name=cyclic"]),
        ("{preset='default'}", ["scheme.name=lwpd", "scheme.preset=default"]),
        ("{}", ["scheme.name=lwpd"]),
    ],
)
def test_a_whole_table_chooses_the_scheme_as_its_keys_do(table: str, keys: list[str]) -> None:
    for tables in ({}, {"scheme": {"name": "local", "options": {"steps": 9}}, "code": {"blocks": 3}}):
        before = ["scheme.options.steps=7"]  # replaced, too
        assert resolve(tables, *before, f"scheme={table}", "seed=3") == resolve(tables, *keys, "seed=3")
    assert resolve({}, "scheme={name='uncoded'}").code.family == "uncoded"
    assert resolve({}, "scheme={preset='default'}").wire.dtype == "int2"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"scheme": {"name": "uncoded", "preset": "default"}},
            r"scheme\.preset: scheme 'uncoded' has no preset 'default'",
        ),
        ({"scheme": {"preset": "defaults"}}, r"scheme\.preset: .*'defaults'; known: default, starved, ring"),
        ({"scheme": {"preset": 3}}, r"scheme\.preset: .*3"),
        ({"scheme": "lwpd"}, r"scheme: .*'lwpd'"),
        ({"scheme": {"name": 3}}, r"scheme\.name: .*3"),
    ],
)
def test_unknown_presets_are_refused(tables: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(tables)


def test_the_default_preset_learns_at_a_fraction_of_the_bytes() -> None:
    made = Descent(
        [
            "scheme.preset=default", "problem.hidden=[64]", "problem.batch=32",
            "workers.count=4", "stop.updates=400",
        ],
        [1, 1.2, 1.4, 8],
    )  # fmt: skip
    assert made.loss_ratio() < 0.25
    assert made.components.layout.reply_bytes < made.components.layout.gradient_bytes / 15
