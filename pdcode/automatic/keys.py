"""Keys resolved from data and workers: whether and how workers whiten gradients, and their look-ahead.

A whitened gradient has the same length for any loss of the worker, until the loss is small. Where shards
differ, such gradients counteract each other, and the descent stops far from the optimum; likewise where the
optimum of a regression, or of full batches, is to be reached. There, gradients are not whitened, and the
learning rate, which has no dimension for whitened gradients, is converted.
"""

from typing import Any

import msgspec
import numpy as np

from ..coding import flops
from ..config import AUTO, CodeTable, Config, NetworkTable, kinds, requirements
from ..config.defaults import FILLED
from ..fitted import (
    DIFFERING_SHARDS,
    LENGTH_LOOKAHEAD,
    LOOKAHEAD_N,
    MAX_LOOKAHEAD,
    MORE_COST,
    MORE_STEPS,
    PLAIN_TO_WHITENED,
    REFERENCE_FRACTION,
)
from ..problems import DataSource, ModelTable, NetworkProblem, Problem, RowSet, split
from ..problems.whitening import NONE, Whitening
from ..schemes.rate_laws import gradient_rate
from ..util.progress import track
from . import rates as auto_rate

TABLES = "scheme", "problem", *FILLED  # tables with keys that may be "auto"
MAX_SHARDS, MAX_ROWS = 64, 64  # shards that are compared, and rows of each half of a shard
ELEMENTS = 1 << 22  # of gradients, evenly spaced, by which shards are compared
SAMPLES = 32  # mini-batches whose gradients' lengths are compared
LONG_FLOPS = 1e9  # of a gradient, from which on the comparison is shown as progress


def resolve_auto(config: Config, source: DataSource) -> tuple[Config, list[str]]:
    """Return the configuration with values for the keys that are "auto", and lines that give the reasons."""
    optimizer = config.optimizer.resolved(config.stop.updates)
    config = msgspec.structs.replace(config, optimizer=optimizer)
    if config.memory.lookahead == "auto":
        config = config.with_keys(memory={"lookahead": lookahead(config)})
    lines = list[str]()
    if isinstance(config.problem, ModelTable):
        problem, lines = config.problem.with_axes(config.code.blocks).resolved(source.sample)
        config = msgspec.structs.replace(config, problem=problem)
        if config.code.centre is True:
            config, line = settle_centring(config, source.sample)
            lines.append(line)
    elif isinstance(config.problem, NetworkTable) and config.problem.standardise == AUTO:
        scaling = False if source.dataset.is_sparse else config.problem.scaling
        config = config.with_keys(problem={"standardise": scaling})
    if config.code.centre == AUTO and config.code.whiten in ("none", "gram"):
        config = config.with_keys(code={"centre": False})
    if config.code.whiten == "none" and config.optimizer.rate != AUTO:
        return config, lines
    sample = Problem.from_dataset(config.problem, source.sample, config.code.blocks)
    difference = shard_difference(config, sample, source.rows)
    if config.code.whiten != "none":
        config, more = resolve_whitening(config, sample, difference)
        lines += more
        if config.code.steps == "auto":
            config = config.with_keys(code={"steps": newton_schulz_steps(config, sample)})
    if config.optimizer.rate == AUTO:
        slower = DIFFERING_SHARDS if difference and config.code.whiten == "none" else 1.0
        config, line = auto_rate.resolve(config, sample, slower)
        lines.append(line)
    return config, lines


def least(config: Config) -> Config:
    """Return the configuration with values for keys that are "auto" with which nothing has another size."""
    config = msgspec.structs.replace(config, optimizer=config.optimizer.resolved(config.stop.updates))
    changes: dict[str, dict[str, Any]] = {}
    if config.memory.lookahead == AUTO:
        changes["memory"] = {"lookahead": 0.0}
    if config.code.whiten == AUTO:
        changes["code"] = {"whiten": "none"}
    if config.optimizer.rate == AUTO:
        changes["optimizer"] = {"rate": 1.0}
    return config.with_keys(**changes)


def settle_centring(config: Config, sample: RowSet) -> tuple[Config, str]:
    """Return the configuration, without centred inputs if the model shows none, and a line on these."""
    problem = Problem.from_dataset(config.problem, sample, config.code.blocks)
    matrices = sum(layer.inputs > 0 for layer in problem.layers)
    centred = sum(each.centred for each in problem.products.values())
    if centred:
        rest = "" if centred == matrices else "; others have no bias of their own, or data as inputs"
        return config, f"gradients of {centred} of {matrices} matrices are by centred inputs{rest}"
    why = "no linear layer or convolution with a bias is behind parameters"
    if not (isinstance(config.problem, ModelTable) and config.problem.by_factors):
        why = "they are not computed from factors (problem.factors), so that inputs of layers are not known"
    without = config.with_keys(code={"centre": False})
    return without, f"no gradients are by centred inputs (code.centre): {why}"


def resolve_whitening(config: Config, sample: Problem, difference: str) -> tuple[Config, list[str]]:
    """Return as `resolve_auto`, for the key ``code.whiten`` and the keys that follow from it."""
    whiten, given = config.code.whiten, config.code.centre is True
    if config.code.centre == AUTO:
        config = config.with_keys(code={"centre": can_centre(config, sample)})
    if whiten != "auto":
        line = f"code.whiten '{whiten}' slows the descent here, 'auto' would be 'none': {difference}"
        return config, [line] if difference else []
    why = difference or reason_against(config, sample)
    if not why:
        # Gradients of centred inputs need no Newton–Schulz step; linear models have them by scaling.
        linear = isinstance(config.problem, NetworkTable) and len(sample.layers) == 1
        return config.with_keys(code={"whiten": "norm" if linear or config.code.centre else "gram"}), []
    changes: dict[str, dict[str, Any]] = {"code": {"whiten": "none", "centre": given}}
    lines, key = [f"gradients are not whitened (code.whiten 'auto'): {why}"], gradient_rate(config)
    if key and not (key == "optimizer.rate" and config.optimizer.rate == AUTO):
        own: Any = config.scheme.options if key.startswith("scheme") else config.optimizer
        factor = plain_rate(config, sample) * (DIFFERING_SHARDS if difference else 1)
        plain = float(f"{own.rate * factor:.3g}")
        lines.append(
            f"{key} {own.rate:g} for whitened gradients becomes {plain:g} for gradients not whitened"
        )
        if own is config.optimizer:
            changes["optimizer"] = {"rate": plain}
        else:
            changes["scheme"] = {"options": msgspec.structs.replace(own, rate=plain)}
    ahead = config.memory.lookahead
    if difference and ahead:  # the residuals of the workers differ
        changes["memory"] = {"lookahead": 0.0}
        lines.append(f"memory.lookahead {ahead:g} becomes 0 for the same reason")
    return config.with_keys(**changes), lines


def can_centre(config: Config, sample: Problem) -> bool:
    """Return whether a network has hidden layers, whose inputs the scheme lets be centred."""
    if not isinstance(config.problem, NetworkTable) or len(sample.layers) < 2:
        return False
    centred, scheme = config.with_keys(code={"centre": True}), kinds.find("schemes", config.scheme.name)
    own = {key: need for key, need in scheme.requires.items() if key == "code.centre"}
    return all(requirements.is_met(centred, needs) for needs in (own, CodeTable.requires["centre"]))


def newton_schulz_steps(config: Config, sample: Problem) -> int:
    """Return the number of Newton–Schulz steps of a whitened gradient.

    The gradient of a layer that sees one row a sample has a rank of at most the mini-batch, and further steps
    enlarge its noise.
    """
    if config.code.whiten != "gram" or all(each.samples <= 1 for each in sample.products.values()):
        return 1
    one, more = (
        flops.gradient_flops(config.with_keys(code={"steps": steps}), sample, 1) for steps in (1, MORE_STEPS)
    )
    return MORE_STEPS if more <= MORE_COST * one else 1


def lookahead(config: Config) -> float:
    """Return the look-ahead, as a factor of a worker's own residual.

    θ will move along the mean of all workers' residuals. One worker's residual predicts that mean less well
    the more workers there are, because mini-batch and shard noise average out: the factor that is best in the
    mean square falls to one over their number. It is also smaller where residuals are larger. Where steps
    have a length of their own, LENGTH_LOOKAHEAD is as good for any of these numbers.
    """
    if config.optimizer.has_length or kinds.find("schemes", config.scheme.name).has_length:
        return LENGTH_LOOKAHEAD
    fraction = REFERENCE_FRACTION if config.code.share is None else config.code.share
    ahead = min(MAX_LOOKAHEAD, LOOKAHEAD_N / config.workers.count) * min(1.0, fraction / REFERENCE_FRACTION)
    return float(f"{ahead:.3g}")


def reason_against(config: Config, sample: Problem) -> str:
    """Return why whitening would slow the descent where shards are alike, or an empty string."""
    if "code.whiten" in getattr(config.optimizer.proximal, "requires", {}).get("kind", {}):
        return "a proximal step (optimizer.proximal) must follow a step along the gradient"
    why, cure = "the least loss may be far from 0 (problem.near_zero)", ""
    shrinking = sample.model.near_zero
    if not shrinking and isinstance(sample, NetworkProblem):
        why, shrinking = "targets are real numbers", sample.model.loss_unit is not None
        cure = "; with problem.standardise_targets they do" * sample.model.loss.squared
    if not shrinking:
        return f"{why}, and whitened steps do not shrink before the loss is near 0{cure}"
    if not config.problem.batch:
        return "batches are full (problem.batch 0), and whitened steps do not end at the optimum"
    return ""


def shard_difference(config: Config, sample: Problem, rows: int) -> str:
    """Return a text on how the workers' shards of `rows` rows differ; it is empty if they are alike."""
    how, batch = split.sharding(config.problem), config.problem.batch
    if how == "replicated":
        return ""
    if how == "shuffled":  # alike, unless they are small
        shard = rows // config.workers.count
        return (
            f"shards have {shard} rows, so each worker's mini-batches of {batch} (problem.batch) have "
            f"another mean gradient; problem.shards 'replicated' gives all workers all rows"
            if 0 < 2 * shard < batch  # with fewer rows than workers, each worker has all rows
            else ""
        )
    spread = gradient_spread(config, sample)
    if spread <= 1:
        return ""
    return (
        f"shards differ (problem.shards 'contiguous'), the variance of the workers' mean gradients is "
        f"{spread:.3g} times the variance of mini-batches"
    )


def gradient_spread(config: Config, sample: Problem) -> float:
    """Return the variance of the shards' mean gradients as a multiple of a mini-batch's, at the first θ.

    Both are estimated from two halves of each of at most `MAX_SHARDS` contiguous shards of the sample,
    without bias from the noise of the halves. It is about 0 for shards drawn at random.
    """
    shards = min(config.workers.count, MAX_SHARDS, sample.rows // 4)
    if shards < 2:
        return 0.0
    theta, halves = sample.initial(config.seed), []
    stride = -(-sample.size // ELEMENTS)
    for shard in range(shards):
        rows = np.arange(shard * sample.rows // shards, (shard + 1) * sample.rows // shards)
        rows = rows[split.evenly_spaced(len(rows), min(len(rows), 2 * MAX_ROWS))]
        pair = rows[: len(rows) // 2 * 2].reshape(-1, 2).T  # alternating rows, for order within a shard
        halves.append([sample.gradient(theta, half)[::stride].astype(np.float64) for half in pair])
    size = len(pair[0])
    first, second = (np.stack(half) for half in zip(*halves, strict=True))
    inner = first @ second.T
    own = float(np.trace(inner)) / shards
    others = float(inner.sum() - np.trace(inner)) / (shards * (shards - 1))
    noise = 0.5 * size * float(np.square(first - second).sum(axis=1).mean())  # of a sample
    return max(0.0, own - others) * (config.problem.batch or size) / max(noise, 1e-300)


def plain_rate(config: Config, problem: Problem) -> float:
    """Return the learning rate for gradients that are not whitened which corresponds to 1 for whitened ones.

    Both steps are compared by their lengths, each at a θ from which a run may start; the best plain steps
    were half as long. The result does not depend on the seed of the run, with which it would vary twofold.
    """
    batch, random = min(config.problem.batch or problem.rows, problem.rows), np.random.default_rng(0)
    whitened = Whitening("norm" if config.code.whiten == "norm" else "gram", *config.code.whitening[1:])
    long = problem.gradient_flops(batch, whitened) > LONG_FLOPS
    plans, lengths = [problem.plan(batch, whiten=whiten) for whiten in (whitened, NONE)], [0.0, 0.0]
    what = "gradients for optimizer.rate 'auto', whitened and not whitened"
    for seed in track(range(SAMPLES), SAMPLES, what) if long else range(SAMPLES):
        theta = problem.initial(seed)
        rows = np.sort(random.choice(problem.rows, batch, replace=False))
        for number, plan in enumerate(plans):
            plan.gradient(theta, rows)
            lengths[number] += float(np.linalg.norm(plan.full_gradient.astype(np.float64)))
    return PLAIN_TO_WHITENED * lengths[0] / lengths[1] if lengths[1] > 0 else 1.0


def with_resolved(config: Config, tables: dict[str, Any]) -> Config:
    """Return a worker's configuration with the tables that rank 0 has resolved."""
    made = Config.of(tables)
    return msgspec.structs.replace(config, **{name: getattr(made, name) for name in TABLES})
