"""Candidates of a study: schemes in configurations with the same problem, workers and delays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ..config import AUTO, Config, SchemeTable
from ..config.defaults import with_derived_keys
from .learning_rates import rate_of, with_rate
from .trial import within

OWN = "yours"  # the user's own configuration
DRAWN = "drawn"  # first word of the name of a configuration drawn at random
VARIED = ("scheme", "code", "decoder", "memory", "wire", "downlink", "reduce", "update")
"""Tables of a candidate; the other tables are the user's."""


@dataclass(frozen=True)
class Candidate:
    """A scheme with the configuration in which it runs."""

    name: str  # `OWN`, or a scheme's or preset's name, with ``/KEY=VALUE`` for each changed key; or a label
    config: Config
    multiple: float = 1.0  # learning rate, as a multiple of the rate with which the scheme was offered
    changed: Mapping[str, Any] = field(default_factory=dict)  # keys that a search has changed
    held: tuple[str, ...] = ()  # keys that the name or the command gives, which tuning leaves

    @property
    def is_own(self) -> bool:
        """Whether this is the user's own configuration."""
        return self.name == OWN and self.multiple == 1

    @property
    def title(self) -> str:
        """Name, and what a search has changed."""
        options = (f"{key.rpartition('.')[2]} {value}" for key, value in self.changed.items())
        return ", ".join([self.name, *options, *[f"rate ×{self.multiple:.3g}"] * (self.multiple != 1)])

    @property
    def rate(self) -> float:
        """The scheme's main learning rate, see `learning_rates.rate_key`."""
        return rate_of(self.config)

    def at(self, rate: float) -> Candidate:
        """Return the candidate with another learning rate."""
        return replace(self, config=with_rate(self.config, rate))

    def within(self, limit_s: float) -> Candidate:
        """Return the candidate with a time limit of at most `limit_s`."""
        return replace(self, config=within(self.config, limit_s))

    def __str__(self) -> str:
        return f"{self.title}: {summary(self.config)}"


def identity(config: Config) -> bytes:
    """Return a key of everything that a run depends on, with dependent defaults resolved."""
    scheme = config.scheme
    if not scheme.is_auto:  # else its tables are not known yet
        named = scheme.name not in ("lwpd", "uncoded")  # the tables determine these two
        scheme = msgspec.structs.replace(scheme, preset=None) if named else SchemeTable.of({})
    return msgspec.json.encode(msgspec.structs.replace(with_derived_keys(config), scheme=scheme))


def summary(config: Config) -> str:
    """Describe a scheme in one line: code, memory, messages, updates, step size."""
    code, update = config.code, config.update
    coded = "uncoded"
    if code.family != "uncoded":
        share, given = code.share, getattr(code, "weight", None)
        rows = f"r={_joined(code.rows_per_task or 1)}" if share is None else f"share {share:.3g}"
        weight = "" if given is None else f" w={_joined(given)}"
        coded = f"{code.family} k={_joined(code.blocks)}{weight} {rows}"
    parts = [
        config.scheme.name if config.scheme.name not in ("lwpd", "uncoded") else coded,
        {"gram": "whitened", "auto": "whitened", "norm": "normed"}.get(code.whiten, ""),
        f"memory {config.memory.kind}" if config.memory.kind != "none" else "",
        f"look-ahead {ahead}" if (ahead := config.memory.lookahead) else "",
        config.decoder.kind if config.decoder.kind != config.memory.decoder else "",
        "/".join(config.wire.formats),
        {"codewords": "codewords down", "exchange": "exchanged"}.get(config.downlink.kind, ""),
        update.description(config.workers.count).partition(" of ")[0],
        config.reduce.kind if config.reduce.summed else "",
        "" if config.reduce.bits is None else f"sums of {config.reduce.bits} bits",
        "late wasted" if update.late == "waste" and not (update.asynchronous or update.complete) else "",
        f"rate {rate if (rate := config.optimizer.rate) == AUTO else format(rate, '.3g')}",
    ]
    return ", ".join(filter(None, parts))


def _joined(value: int | str | list[int]) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
