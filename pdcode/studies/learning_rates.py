"""Learning rates of candidates: read, changed, and converted between schemes."""

import functools
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import msgspec

from ..automatic import keys as auto_keys
from ..config import AUTO, Config
from ..problems import Problem
from .trial import data_source


def has_rate(tables: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the tables of a scheme or preset have a learning rate of their own."""
    return "rate" in tables.get("optimizer", {})


def rate_key(config: Config) -> str:
    """Return the key of a configuration's main learning rate: the scheme's own, or else the optimizer's."""
    return "scheme.options.rate" if hasattr(config.scheme.options, "rate") else "optimizer.rate"


def rate_of(config: Config) -> float:
    """Return the main learning rate."""
    return float(attrgetter(rate_key(config))(settled(config)))


def settled(config: Config) -> Config:
    """Return the configuration with a number for the optimizer's rate, and what it follows from."""
    if config.optimizer.rate != AUTO:
        return config
    return auto_keys.resolve_auto(config, data_source(config))[0]


def with_rate(config: Config, rate: float) -> Config:
    """Return the configuration with another main learning rate."""
    config, found = settled(config), {"rate": float(f"{rate:.4g}")}
    if rate_key(config) == "optimizer.rate":
        return config.with_keys(optimizer=found)
    return config.with_keys(scheme={"options": msgspec.structs.replace(config.scheme.options, **found)})


def converted(config: Config, base: Config) -> Config:
    """Return the configuration with the learning rate of `base` for its kind of step.

    Steps of an optimizer that is not linear in the gradient, if `base` has another, begin with its default.
    """
    own = config.optimizer
    if own.kind != base.optimizer.kind and not own.linear:
        rate = float(type(own)().rate)
    else:
        rate = base_rate(base) * unit_rate(config)
    return config.with_keys(optimizer={"rate": float(f"{rate:.4g}")})


def base_rate(base: Config) -> float:
    """Convert a learning rate to the rate of a step by the plain gradient of all n workers' replies.

    In `async` mode an arrival is scaled by 1/n with memory ``worker``, and is a full step otherwise. Steps
    count by their `OptimizerTable.reach`. Rates of whitened gradients are dimensionless; they are
    converted by lengths, see `automatic.keys.plain_rate`.
    """
    base = settled(base)
    return float(base.optimizer.rate) / unit_rate(base)


def unit_rate(config: Config) -> float:
    """Return the learning rate of a configuration for which `base_rate` is 1."""
    whole_step = not config.update.asynchronous or config.memory.kind == "worker"
    rate = 1.0 if whole_step else 1.0 / config.workers.count
    rate /= config.optimizer.reach
    if config.code.whiten == "none":
        return rate
    return rate / _plain_rate(msgspec.json.encode((config.problem, config.code.whiten)))


@functools.lru_cache(16)
def _plain_rate(key: bytes) -> float:
    table, whiten = msgspec.json.decode(key)
    config = Config.of({"problem": table, "code": {"whiten": whiten}})
    problem = Problem.from_dataset(config.problem, data_source(config).sample)
    return auto_keys.plain_rate(config, problem)
