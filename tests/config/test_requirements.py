"""Keys without effect are refused, and dropped where the command line takes their effect away."""

import pytest

from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.config.requirements import by_key
from pdcode.config.write import to_toml
from pdcode.util.errors import InputError

SELECTED = {  # key -> what gives it an effect, and what takes it
    "problem.hidden=[8]": ("problem.kind=mlp", "problem.kind=softmax"),
    "problem.activation=tanh": ("problem.kind=mlp", "problem.kind=least-squares"),
    "problem.task=regression": ("problem.kind=mlp", "problem.kind=softmax"),
    "problem.samples=50": ("problem.data=synthetic", "problem.data=digits"),
    "problem.features=5": ("problem.data=synthetic", "problem.data=digits"),
    "problem.outputs=2": ("problem.data=synthetic", "problem.data=a.npz"),
    "problem.noise=0.5": ("problem.data=synthetic", "problem.data=digits"),
    "problem.condition=5": ("problem.data=synthetic", "problem.data=digits"),
    "problem.density=0.5": ("problem.data=synthetic", "problem.data=digits"),
    "problem.labels=l": ("problem.data=a-idx3-ubyte", "problem.data=a.h5"),
    "problem.inputs=a": ("problem.data=a.h5", "problem.data=digits"),
    "problem.targets=b": ("problem.data=a.npz", "problem.data=a.svm"),
    "problem.exclude=c": ("problem.data=a.csv", "problem.data=a.h5"),
    "problem.missing=mean": ("problem.data=a.csv", "problem.data=a.h5"),
    "problem.standardise_targets=true": ("problem.kind=mlp", "problem.kind=softmax"),
    "code.steps=2": ("code.whiten=gram", "code.whiten=norm"),
    "downlink.check=7": ("downlink.kind=codewords", "downlink.kind=full"),
    "optimizer.nesterov=true": ("optimizer.momentum=0.5", "optimizer.momentum=0"),
    "optimizer.updates=9": ("optimizer.schedule=linear", "optimizer.schedule=constant"),
    "optimizer.final=0.1": ("optimizer.schedule=cosine", "optimizer.schedule=constant"),
    "optimizer.clip=2.0": ("optimizer.kind=adam", "optimizer.kind=sign"),
    "link.fanout=3": ("link.broadcast=tree", "link.broadcast=star"),
    "link.segment=100": ("link.broadcast=chain", "link.broadcast=multicast"),
    "shuffle.every=7": ("shuffle.kind=exchange", "shuffle.kind=none"),
    "shuffle.cache=2": ("shuffle.kind=coded", "shuffle.kind=uncoded"),
    "faults.failure={kind='exit'}": ("faults.mtbf_s=1.0", ""),
    "faults.spot_end=kill": ("faults.spot=nodes.csv", ""),
    "faults.spot_speed=2.0": ("faults.spot=nodes.csv", ""),
    "faults.audit_tolerance=0.1": ("faults.audit=0.1", ""),
    "trace.sample=3": ("trace.arrivals=sampled", "trace.arrivals=all"),
}

OF_A_KIND = {  # key -> kinds that have it, and one that does not
    "update.count=2": ("update.mode=first", "update.mode=quorum", "update.mode=async"),
    "update.fraction=0.5": ("update.mode=captured", "update.mode=all"),
    "optimizer.momentum=0.5": ("optimizer.kind=sgd", "optimizer.kind=adam"),
    "optimizer.beta1=0.5": ("optimizer.kind=adam", "optimizer.kind=sgd"),
    "optimizer.beta2=0.5": ("optimizer.kind=adam", "optimizer.kind=sgd"),
    "optimizer.epsilon=1e-3": ("optimizer.kind=adam", "optimizer.kind=sign"),
}


def tables(*overrides: str) -> dict[str, dict[str, object]]:
    """The overrides as the tables of a file."""
    built: dict[str, dict[str, object]] = {}
    for override in overrides:
        keys, value = configfile.parse_override(override)
        built.setdefault(keys[0], {})[keys[1]] = value
    return built


def test_every_condition_is_tried() -> None:
    config = Config()
    conditional = {
        f"{name}.{key}"
        for name in config.__struct_fields__
        for key, _ in by_key(getattr(getattr(config, name), "effective", {}))
    }
    elsewhere = {"reduce.check", "reduce.fanout"}  # tried with their kinds, as are those of stragglers
    elsewhere |= {"problem.recursive"}  # in tests/problems/test_recursion.py, with what else it needs
    assert {key.partition("=")[0] for key in SELECTED} == conditional - elsewhere


@pytest.mark.parametrize("key", SELECTED)
def test_a_key_without_effect_is_refused(key: str) -> None:
    gives, takes = SELECTED[key]
    name = key.partition("=")[0]
    configfile.resolve(tables(key, gives))
    for given in ([tables(key, *filter(None, [takes]))], [{}, [key, *filter(None, [takes])]]):
        with pytest.raises(InputError, match=rf"^{name.replace('.', '[.]')}: .*no effect with .*; it needs "):
            configfile.resolve(*given)


@pytest.mark.parametrize("key", [key for key, (_, takes) in SELECTED.items() if takes])
def test_a_key_of_the_file_goes_with_what_gave_it_an_effect(key: str) -> None:
    gives, takes = SELECTED[key]
    table, name = key.partition("=")[0].split(".")
    changed = configfile.resolve(tables(key, gives), [takes])
    assert getattr(getattr(changed, table), name) == getattr(getattr(Config.of(tables(takes)), table), name)
    with pytest.raises(InputError, match="no effect"):
        configfile.resolve(tables(gives), [takes, key])


@pytest.mark.parametrize("key", OF_A_KIND)
def test_a_key_of_another_kind_is_refused_and_dropped_with_the_kind_of_the_file(key: str) -> None:
    *having, lacking = OF_A_KIND[key]
    table, name = key.partition("=")[0].split(".")
    tag = lacking.partition("=")[2]
    for each in having:
        config = configfile.resolve(tables(key, each))
        assert getattr(getattr(config, table), name) == tables(key)[table][name]
        changed = getattr(configfile.resolve(tables(key, each), [lacking]), table)
        assert name not in changed.__struct_fields__
    for given in ([tables(key, lacking)], [{}, [key, lacking]], [tables(having[0]), [lacking, key]]):
        with pytest.raises(InputError, match=rf"^{table}\.{name}: \w+ '{tag}' has no such key "):
            configfile.resolve(*given)


def test_keys_that_all_kinds_had_once_may_have_their_defaults() -> None:
    """As a dry run wrote them."""
    given = {"update": {"mode": "all"}, "optimizer": {"kind": "adam"}}
    written = {"update": {"fraction": 0.75}, "optimizer": {"momentum": 0.0, "nesterov": False}}
    assert configfile.resolve({name: given[name] | written[name] for name in given}) == configfile.resolve(
        given
    )


def test_slowdown_needs_a_slow_worker() -> None:
    slow = {"kind": "slow-set", "shift_s": 0.1, "slowdown": 3.0}
    with pytest.raises(InputError, match=r"stragglers.slowdown: 3.0 has no effect with stragglers.slow \[\]"):
        configfile.resolve({"stragglers": slow})
    configfile.resolve({"stragglers": {**slow, "slow": [1]}})
    configfile.resolve({"stragglers": {"kind": "heterogeneous", "slowdown": 3.0}})


def test_defaults_written_out_are_no_keys_without_effect(tmp_path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(to_toml(configfile.resolve({"problem": {"kind": "softmax"}, "update": {"mode": "all"}})))
    configfile.load(path)


def test_a_preset_drops_keys_that_have_no_effect_with_it() -> None:
    config = configfile.resolve(
        {"update": {"mode": "captured", "fraction": 0.5}}, ["scheme.preset=first", "scheme.name=lwpd"]
    )
    assert (config.update.mode, config.update.count) == ("first", "auto")  # type: ignore[attr-defined]


def test_another_kind_of_delay_drops_the_old_kinds_keys() -> None:
    job = {"stragglers": {"kind": "shifted-exponential", "shift_s": 0.1, "mean_s": 0.2, "slow": [1]}}
    config = configfile.resolve(job, ["stragglers.kind=trace", "stragglers.path=a.h5"])
    assert (config.stragglers.kind, config.stragglers.slow) == ("trace", [1])
    with pytest.raises(InputError, match=r"stragglers.path: must be given"):
        configfile.resolve(job, ["stragglers.kind=trace"])
    with pytest.raises(InputError, match=r"stragglers.shift_s: kind 'trace' has no such key"):
        configfile.resolve(job, ["stragglers.kind=trace", "stragglers.path=a.h5", "stragglers.shift_s=1"])


def test_captured_is_undefined_for_codewords_that_workers_choose() -> None:
    code = {"family": "matched", "blocks": 64, "rows_per_task": 2}
    with pytest.raises(InputError, match=r"update.mode: 'captured' does not go with code.family 'matched'"):
        configfile.resolve({"code": code, "update": {"mode": "captured"}})
    configfile.resolve({"code": {"family": "energy"}, "update": {"mode": "captured"}})
