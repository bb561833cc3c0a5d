"""SparseLoCo against its algorithm by hand; its bytes, its memory, and the clip to the median norm."""

import numpy as np
import pytest
import reference
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st
from local_steps import LINES, AdamW, displacements
from outcomes import refused
from sides import Sides

from pdcode.config import load as configfile
from pdcode.rivals.sparseloco import BufferedMean, clip_factors
from pdcode.session.setup import prepare
from pdcode.trace.schema import WASTED
from pdcode.util.errors import InputError

TIMES = [1, 1.3, 1.7, 6]
NAME = "scheme.name=sparseloco"
SPARSELOCO = [NAME, "code.blocks=1", "optimizer.rate=1"]  # Descent has another rate
KEYS = 0.02, 0.9, 0.999, 1e-8, 0.1  # of AdamW


def options(**values: object) -> str:
    texts = (f"{name}={str(value).lower()}" for name, value in values.items())
    return f"scheme.options={{{','.join(texts)}}}"


def largest(vector: np.ndarray, chunk: int, most: int) -> np.ndarray:
    """Places of the largest elements of each chunk."""
    found = []
    for start in range(0, len(vector), chunk):
        order = np.argsort(-np.abs(vector[start : start + chunk]), kind="stable")
        found.extend(start + np.sort(order[:most]))
    return np.array(found)


def rounded(values: np.ndarray) -> np.ndarray:
    """Values of one group as the mean magnitudes of their bins."""
    x = values.astype(np.float32)
    bins, means = reference.to_bins(x, np.abs(x).max())
    return np.array([*means, *np.negative(means)], np.float64)[bins]


def clipped(payloads: list[np.ndarray]) -> list[np.ndarray]:
    norms = [np.linalg.norm(payload) for payload in payloads]
    median = sorted(norms)[(len(norms) - 1) // 2]
    return [payload * min(1, median / norm) for payload, norm in zip(payloads, norms, strict=True)]


@pytest.mark.parametrize("wire", ["int2", "float64"])
@pytest.mark.parametrize("clips", [True, False])
@pytest.mark.parametrize("mean", ["workers", "senders"])
@pytest.mark.parametrize(("chunk", "most"), [(4, 2), (4096, 3), (5, 1)])
def test_it_is_the_algorithm_by_hand(wire: str, clips: bool, mean: str, chunk: int, most: int) -> None:
    """11 parameters, the last chunk short; shards of unequal size."""
    sets = [
        "problem.features=10",
        "problem.batch=3",
        f"wire.dtype={wire}",
        "memory.keep=0.8",
        "stop.updates=8",
    ]
    chosen = options(steps=3, rate=KEYS[0], chunk=chunk, largest=most, mean=repr(mean), clip=clips)
    made = Descent([*SPARSELOCO, *LINES, *sets, chosen], TIMES)
    assert made.run() == "enough"
    theta, inner = made.thetas[0].copy(), [AdamW(*KEYS) for _ in range(4)]
    memory, differs = np.zeros((4, 11)), False
    for task in range(8):
        memory = 0.8 * memory + displacements(made, inner, theta, task, 3)
        places = [largest(e, chunk, most) for e in memory]
        sent = [e[at] if wire == "float64" else rounded(e[at]) for e, at in zip(memory, places, strict=True)]
        for e, at, payload in zip(memory, places, sent, strict=True):
            e[at] -= payload
        used = clipped(sent) if clips else sent
        differs |= any(not np.array_equal(*pair) for pair in zip(used, sent, strict=True))
        moved = [
            np.bincount(at, weights=payload, minlength=11) for at, payload in zip(places, used, strict=True)
        ]
        senders = np.bincount(np.concatenate(places), minlength=11)
        theta -= np.sum(moved, axis=0) / (4 if mean == "workers" else np.maximum(senders, 1))
        np.testing.assert_allclose(made.thetas[task + 1], theta, rtol=1e-6, atol=1e-9)
    for worker, e in zip(made.workers, memory, strict=True):
        np.testing.assert_allclose(worker.encoders[0].residual, e, rtol=1e-5, atol=1e-9)
    assert differs == clips


@pytest.mark.parametrize(("name", "dense"), [("sparseloco", "diloco"), ("sparse-muloco", "muloco")])
def test_with_all_elements_it_is_diloco_without_momentum(name: str, dense: str) -> None:
    job = [*LINES, "problem.batch=3", "stop.updates=20", "optimizer={rate=1}"]
    chosen = options(steps=2, chunk=4, largest=4, clip=False)
    made = Descent([f"scheme.name={name}", *job, "wire.dtype=float64", chosen], TIMES)
    diloco = Descent([f"scheme.name={dense}", *job, options(steps=2)], TIMES)
    assert made.run() == diloco.run() == "enough"
    np.testing.assert_allclose(made.thetas, diloco.thetas, rtol=0, atol=1e-12)


def test_the_bytes_of_a_reply_by_hand() -> None:
    """12 bits an index, 2 bits a value, and 8 bytes for the two means of 1,024 values."""
    data = ["problem.data=synthetic", "problem.kind=least-squares", "problem.samples=20", "stop.updates=1"]
    one = prepare(configfile.resolve({}, [NAME, *data, "problem.features=784", "problem.outputs=64"])).layout
    # 50,240 parameters: 12 chunks of 4,096, and one of 1,088
    assert one.rows == (13 * 64,)
    assert (one.codeword_bytes, one.payload_bytes) == (13 * 64 * 12 // 8, 13 * 64 * 2 // 8 + 8)
    assert one.reply_bytes == one.header_bytes + 1248 + 216
    last = prepare(configfile.resolve({}, [NAME, *data, "problem.features=4099"])).layout
    # 4,100 parameters
    assert last.rows == (64 + 4,)
    assert (last.codeword_bytes, last.payload_bytes) == (102 + 2, 17 + 8 + 7)  # both end at a multiple of 8
    many = [NAME, *data, "problem.features=784", "problem.outputs=100"]
    two = prepare(configfile.resolve({}, many)).layout
    # 78,500 parameters: 19 chunks of 4,096, and one of 676; 1,280 values are two groups
    assert two.rows == (20 * 64,)
    assert (two.codeword_bytes, two.payload_bytes) == (1920, 320 + 2 * 8)


@given(
    lengths=st.lists(st.sampled_from([1, 2, 17, 300, 5000]), min_size=1, max_size=3),
    chunk=st.sampled_from([1, 16, 4096]), most=st.sampled_from([1, 5, 64]),
    keep=st.sampled_from([0.5, 0.95, 1.0]), dtype=st.sampled_from(["float32", "float64"]),
    wire=st.sampled_from(["int2", "int8", "float32"]), lost=st.sets(st.integers(0, 5)),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_what_is_sent_and_what_is_kept_add_up(lengths, chunk, most, keep, dtype, wire, lost, seed):
    """e = Σ β^(T-t) (displacement - what rank 0 took) after T tasks, a payload that it drops being none."""
    sets = [f"memory.keep={keep}", f"problem.dtype={dtype}", f"wire.dtype={wire}"]
    sides = Sides([NAME, *sets, options(chunk=chunk, largest=most)], lengths)
    random, expected = np.random.default_rng(seed), np.zeros(sum(lengths))
    for task in range(6):
        moved = random.standard_normal(sum(lengths)).astype(dtype)
        sound, taken = sides.turn(moved)
        assert sound
        expected = keep * expected + moved
        sent = [np.unique(places) for places, _ in sides.words]
        for unit, places in zip(sides.units, sent, strict=True):
            assert len(places) == sum(min(most, chunk, size) for size in sizes(unit.length, chunk))
        if task in lost:
            sides.memory.rollback()
        else:
            expected -= taken
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(sides.memory.residual, expected, rtol=0, atol=tolerance * (1 + task))


def sizes(length: int, chunk: int) -> list[int]:
    """Sizes of the chunks of a layer."""
    return [min(chunk, length - start) for start in range(0, length, chunk)]


triples = st.tuples(*3 * [st.sampled_from([0.0, 1e-30, -1.0, 2.5, 1e3, -3e38])])


@given(st.lists(triples, min_size=1, max_size=9), st.sampled_from(["float32", "float64"]))
def test_no_norm_is_above_the_median_and_those_below_stay(payloads, dtype):
    made = np.array(payloads, dtype)[:, :, None]
    factors, norms = clip_factors(made), np.linalg.norm(made[:, :, 0].astype(np.float64), axis=1)
    median = np.sort(norms)[(len(norms) - 1) // 2]
    top = norms.max()
    np.testing.assert_allclose(factors * norms, np.minimum(norms, median), rtol=1e-9, atol=1e-150 * top)
    assert (factors[norms < (1 - 1e-12) * median] == 1).all()  # equal norms are so to rounding
    assert 2 * (factors == 1).sum() >= len(norms)


def test_the_median_of_an_even_number_is_the_lower_one() -> None:
    payloads = np.array([4.0, -1.0, 2.0, 3.0])[:, None, None]
    np.testing.assert_allclose(clip_factors(payloads), [0.5, 1, 1, 2 / 3])
    assert clip_factors(payloads[:0]).shape == (0,)


def clip_decoder(blocks: int, workers: int, rows: int, dtype: str, senders: bool = False) -> BufferedMean:
    how = {"workers": workers, "senders": senders, "clips": True}
    return BufferedMean(blocks, (1,), dtype, length=blocks, rows=rows, **how)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("senders", [False, True])
def test_the_estimate_is_the_mean_of_what_is_clipped_also_from_a_snapshot(dtype: str, senders: bool) -> None:
    random = np.random.default_rng(5)
    decoder, dense = clip_decoder(50, 6, 7, dtype, senders), []
    for update in range(2):
        dense.clear()
        for number in range(6):
            places = np.sort(random.permutation(50)[:7]).astype(np.int32)[:, None]
            payload = (random.standard_normal((7, 1)) * 10.0**number).astype(dtype)
            decoder.add_sparse(places, np.ones((7, 1), dtype), payload)
            dense.append(np.zeros(50))
            dense[-1][places[:, 0]] = payload[:, 0]
            over = np.maximum(np.count_nonzero(dense, axis=0), 1) if senders else 6
            expected = np.sum(clipped(dense), axis=0) / over
            np.testing.assert_allclose(decoder.gradient().ravel(), expected, rtol=1e-5, atol=1e-7)
            replica = clip_decoder(50, 6, 7, dtype, senders)
            replica.accumulator[:], replica.count = decoder.accumulator, decoder.count
            replica.touched[:] = [np.arange(50, dtype=np.int32)]
            np.testing.assert_array_equal(replica.gradient(), decoder.gradient())
        decoder.reset()
        assert not decoder.gradient().any(), update


@given(st.integers(1, 9), st.floats(0.1, 1e30), st.integers(0, 2**32))
def test_a_minority_cannot_make_the_estimate_longer_than_a_sound_payload(workers, factor, seed):
    random, decoder = np.random.default_rng(seed), clip_decoder(20, workers, 5, "float64")
    payloads = random.standard_normal((workers, 5, 1))
    sound = np.linalg.norm(payloads[(workers - 1) // 2 :], axis=(1, 2)).max()
    payloads[: (workers - 1) // 2] *= factor
    for payload in random.permutation(payloads):
        places = random.permutation(20)[:5].astype(np.int32)[:, None]
        decoder.add_sparse(places, np.ones((5, 1)), payload)
    assert np.linalg.norm(decoder.gradient()) <= sound * (1 + 1e-12)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["downlink.kind=codewords", "downlink.check=1"],
        ["downlink.kind=codewords", "downlink.check=1", "update.mode=first", "problem.dtype=float64"],
        ["optimizer={rate=0.5,momentum=0.5}", 'wire.dtype=["int4","float32"]'],
        ["update.mode=async", "update.late=use", "stop.updates=320", "scheme.options.clip=false"],
        [
            "scheme.options.mean=senders",
            "downlink.kind=codewords",
            "downlink.check=1",
            "optimizer.momentum=0.3",
        ],
        ["scheme.options={clip=false,mean='senders'}", "downlink.kind=codewords", "optimizer.momentum=0.3"],
    ],
)
def test_it_learns(overrides: list[str]) -> None:
    job = ["workers.count=4", "stop.updates=80", options(steps=4, rate=0.003, chunk=100, largest=10)]
    made = Descent([*SPARSELOCO, *job, *overrides], TIMES)
    assert made.loss_ratio() < 0.6
    if "update.mode=first" in overrides:
        assert any(row["status"] == WASTED for row in made.trace.arrivals)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("scheme.options.chunk=0", ["scheme.options.chunk", "0"]),
        ("scheme.options.mean=all", ["scheme.options.mean", "'all'"]),
        ("scheme.options.largest=0", ["scheme.options.largest", "0"]),
        ("memory.kind=none", ["memory.kind", "'none'", "'sparseloco'", "'worker'"]),
        ("memory.kind=difference", ["memory.kind", "'difference'"]),
        ("memory.keep=1.5", ["memory.keep", "1.5"]),
        ("update.mode=async", ["update.mode", "'async'", "scheme.options.clip = false"]),
        ("update.late=use", ["update.late", "'use'", "scheme.options.clip = false"]),
        ("update.mode=captured", ["update.mode", "'captured'"]),
        ("decoder.kind=least_squares", ["decoder.kind", "'least_squares'"]),
        ("code.blocks=4", ["code.blocks", "4"]),
    ],
)
def test_what_cannot_work_is_refused(override: str, words: list[str]) -> None:
    with refused(*words):
        configfile.resolve({}, [NAME, override])


@pytest.mark.parametrize("override", ["update.mode=async", "update.late=use"])
def test_a_mean_over_senders_takes_no_late_payloads_even_without_the_clip(override: str) -> None:
    unclipped = "scheme.options={clip=false,mean='%s'}"
    configfile.resolve({}, [NAME, override, unclipped % "workers"])
    with pytest.raises(InputError, match="mean = 'workers'"):
        configfile.resolve({}, [NAME, override, unclipped % "senders"])


def test_its_defaults_are_the_papers() -> None:
    config = configfile.resolve({}, [NAME])
    assert (config.memory.kind, config.memory.keep, config.wire.dtype) == ("worker", 0.95, "int2")
    assert (config.optimizer.rate, config.optimizer.momentum, config.update.mode) == (1.0, 0.0, "all")
    assert (config.scheme.options.chunk, config.scheme.options.largest) == (4096, 64)
