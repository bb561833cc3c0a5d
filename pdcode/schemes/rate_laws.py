"""Laws of learning rates: how the rate of a preset follows matrices, workers, mini-batches and curvature.

`settle` is called for every configuration whose preset is known, as `Scheme.settle`; `automatic.rates` calls
the others where the rate is "auto". The constants are in `fitted`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..config import AUTO, Config, NetworkTable, kinds
from ..config.defaults import Origins
from ..fitted import (
    CENTRED_EXPONENT,
    DEEP_EXPONENT,
    FEW_MATRICES,
    FEW_WORKERS,
    FINAL_RATE,
    LARGE_BATCH,
    MOMENTUM_EXPONENT,
    REFERENCE_FRACTION,
    USUAL_BATCH,
    WHITENED_RATE,
)
from ..problems.losses import LeastSquaresProblem

if TYPE_CHECKING:
    from ..problems.curvature import Curvature


def settle(config: Config, origins: Origins) -> Config:
    """Reduce the rate of a preset to `longest_rate` and by `rate_factors`, and note that.

    It becomes "auto" if only the model knows the number of its matrices, and where the preset has none for
    linear models, whose curvature decides. Rate and momentum are settled by the batch where both are the
    preset's, or the rate is "auto".
    """
    config = _settle_schedule(_settle_by_batch(config, origins), origins)
    origin, many, preset = origins.get("optimizer.rate", ""), matrices(config), config.scheme.preset
    linear = isinstance(config.problem, NetworkTable) and not (config.problem.deep or config.problem.latent)
    if preset and not origin and linear and gradient_rate(config) and not _is_whitened(config):
        origins["optimizer.rate"] = f"preset {preset}"
        return config.with_keys(optimizer={"rate": AUTO})
    if not origin.startswith("preset") or config.optimizer.rate == AUTO:
        return config
    if many is None and _is_whitened(config):
        rate: Any = AUTO
    else:
        rate, limits = limited_rate(config, float(config.optimizer.rate), many or 1)
        origin += limits
    if rate == config.optimizer.rate:
        return config
    origins["optimizer.rate"] = origin
    return config.with_keys(optimizer={"rate": rate})


def _settle_schedule(config: Config, origins: Origins) -> Config:
    """Return a configuration whose rate falls, if a preset for regression sets it and the end is known.

    It does not fall to 0, so that a run that is resumed goes on.
    """
    preset, given = config.scheme.preset, {"optimizer.schedule", "optimizer.updates"} & {*origins}
    regressions = kinds.find("schemes", config.scheme.name).regressions
    if preset not in regressions or given or not config.stop.updates:
        return config
    if not origins.get("optimizer.rate", "").startswith("preset"):
        return config
    origins["optimizer.schedule"] = f"preset {preset}"
    return config.with_keys(optimizer={"schedule": "linear", "final": FINAL_RATE})


def _settle_by_batch(config: Config, origins: Origins) -> Config:
    momentum_of, rate_of = (origins.get(f"optimizer.{key}", "") for key in ("momentum", "rate"))
    rate, changed = config.optimizer.rate, dict[str, Any]()
    if momentum_of.startswith("preset") and (rate == AUTO or rate_of.startswith("preset")):
        factor, momentum = adjustment_for_batch(config, config.optimizer.momentum)
        if momentum != config.optimizer.momentum:
            changed["momentum"] = momentum
            origins["optimizer.momentum"] = f"{momentum_of}, {_batches(config)}"
            if rate != AUTO:
                changed["rate"] = float(f"{float(rate) * factor:.3g}")
                origins["optimizer.rate"] = f"{rate_of}, × {factor:g} {_batches(config)}"
    return config.with_keys(optimizer=changed) if changed else config


def limited_rate(config: Config, rate: float, many: int) -> tuple[float, str]:
    """Return a learning rate, limited by `longest_rate` and `rate_factors`, and the limits as text."""
    longest, factors, text = longest_rate(config), rate_factors(config, many), ""
    if rate > longest:
        text += f", at most {longest / config.workers.count:g} · workers.count"
    for what, factor in factors.items():
        text += f", × {factor:g} for {what}"
    rate = min(rate, longest) * math.prod(factors.values())
    return float(f"{rate:.3g}") if factors else rate, text


def preset_optimizer(config: Config) -> Mapping[str, Any]:
    """Return the keys of the optimizer in the configuration's preset; none if its kind is another one."""
    preset = kinds.find("schemes", config.scheme.name).presets.get(config.scheme.preset or "", {})
    own: Mapping[str, Any] = preset.get("optimizer", {})
    return own if own.get("kind", config.optimizer.default) == config.optimizer.kind else {}


def whitened_rate(config: Config) -> tuple[float, str]:
    """Return the usual learning rate of whitened gradients, before limits, and where it is from, as text."""
    own, friction = preset_optimizer(config), 1 - config.optimizer.momentum
    if isinstance(rate := own.get("rate"), float):
        factor, momentum = adjustment_for_batch(config, own.get("momentum", 0.0))
        friction /= 1 - momentum
        text = f"{rate:g} of preset '{config.scheme.preset}'"
        if factor < 1:
            text += f", × {factor:g} {_batches(config)}"
        return rate * factor * friction**MOMENTUM_EXPONENT, text
    rate = WHITENED_RATE * friction**MOMENTUM_EXPONENT
    if not config.update.asynchronous:
        return rate, f"{WHITENED_RATE:g} of whitened gradients"
    if config.memory.kind != "worker":
        return rate / config.workers.count, f"{WHITENED_RATE:g} / workers.count, as each payload is a step"
    smaller = math.sqrt(min(1.0, (config.code.share or 1.0) / REFERENCE_FRACTION))  # residuals are larger
    return rate * smaller, f"{WHITENED_RATE:g} of whitened gradients"


def _is_whitened(config: Config) -> bool:
    return config.code.whiten != "none" and gradient_rate(config) == "optimizer.rate"


def adjustment_for_batch(config: Config, momentum: float) -> tuple[float, float]:
    """Return the factor by which the mini-batches change a preset's rate, and the momentum that they need.

    Larger ones have less noise, so that the mean of whitened gradients is longer, and more momentum pays:
    1 - β falls by √(32/B), and the rate by the root of that. This held for eight workers and more, by the
    batch and not by the samples of an update.
    """
    batch = min(config.problem.batch, LARGE_BATCH)
    few = config.workers.count < FEW_WORKERS
    if not momentum or few or batch <= USUAL_BATCH or config.update.asynchronous or not _is_whitened(config):
        return 1.0, momentum
    less = math.sqrt(USUAL_BATCH / batch)
    return float(f"{math.sqrt(less):.2g}"), float(f"{1 - (1 - momentum) * less:.3g}")


def _batches(config: Config) -> str:
    return f"for mini-batches of {config.problem.batch}"


def rate_factors(config: Config, many: int) -> dict[str, float]:
    """Return factors on a learning rate of whitened gradients, with what they are for.

    A whitened step changes every matrix by the same length, whatever it contributes to the gradient; so many
    matrices change the output by more. The mean of few workers' whitened gradients is noisy. Both were found
    on digits, with 2 to 7 matrices of 64 units, and 4 to 48 workers; the batch, of 32 or 128, did not matter.
    In modules of PyTorch the exponent of centred gradients was not tried.
    The orthogonalised mean of few samples is noisy in all directions.
    """
    workers = config.workers.count
    samples, fewest = workers * config.problem.batch, config.optimizer.fewest_samples
    if 0 < samples < fewest:
        return {f"{samples} samples": float(f"{math.sqrt(samples / fewest):.2g}")}
    if not _is_whitened(config):
        return {}
    centred = config.code.centre and isinstance(config.problem, NetworkTable)
    exponent = CENTRED_EXPONENT if centred else DEEP_EXPONENT
    deep = (FEW_MATRICES / max(FEW_MATRICES, many)) ** exponent
    factors = {f"{many} matrices": float(f"{deep:.2g}")}
    if not config.update.asynchronous:
        factors[f"{workers} workers"] = min(1.0, workers / FEW_WORKERS)
    return {what: factor for what, factor in factors.items() if factor < 1}


def matrices(config: Config) -> int | None:
    """Return the number of matrices of weights of a network; None: only the model knows it."""
    if not isinstance(config.problem, NetworkTable):
        return None
    return 1 + len(config.problem.hidden or ()) * config.problem.deep


def gradient_rate(config: Config) -> str:
    """Return the key of the learning rate that scales the gradients of mini-batches, or an empty string."""
    key: str = kinds.find("schemes", config.scheme.name).gradient_rate
    return "" if key == "optimizer.rate" and not config.optimizer.linear else key


def longest_rate(config: Config) -> float:
    """Return the longest good learning rate, infinite if the number of workers n does not limit it.

    It does where each whitened payload is a step of rate/n by itself: to the scheme's `longest_step`.
    """
    if not (_is_whitened(config) and config.update.asynchronous and config.memory.kind == "worker"):
        return math.inf
    step: float = kinds.find("schemes", config.scheme.name).longest_step
    return step * config.workers.count


def stable_rate(config: Config, curvature: Curvature) -> float:
    """Return a learning rate at which linear steps by stale mini-batches' gradients are stable.

    Steps η of gradients that are t updates old are so up to η = 1/(L(t + 1)), for any curvature up to L; a
    momentum β makes a step 1/(1 - β) times as long, and as many updates longer. It makes it no older if the
    gradient is of the θ to which it leads: Nesterov's, of no earlier θ. That pays for squared errors, whose
    curvature is known; other losses, for which L is only a bound, did not gain. The noise of mini-batches,
    whose curvature differs from the mean one, does not depend on age.
    """
    update, table, n = config.update, config.optimizer, config.workers.count
    payloads = update.typical_payloads(n)
    if update.asynchronous and config.memory.kind == "worker":
        payloads = n
    still, samples, age = 1 - table.momentum, config.problem.batch * payloads, staleness(config)
    noise = curvature.row / samples if samples else 0.0
    leads = table.nesterov and not age and isinstance(config.problem, LeastSquaresProblem)
    return still / (curvature.mean * (age + (1.0 if leads else 1 / still)) + noise)


def staleness(config: Config) -> float:
    """Return about how many updates old a gradient is, in the mean, when the last part of it is a step."""
    updates = 0.0 if config.update.complete else 1.0
    if config.memory.kind == "worker":
        return updates + 1 / (config.code.share or REFERENCE_FRACTION)
    return updates * (config.workers.count if config.update.asynchronous else 1)
