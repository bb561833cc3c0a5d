"""Groups of workers that are slow alike: all workers of a host, or several with one level."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ..trace.reader import TraceReader
from ..util.formats import workers_named
from .slowness import LEAST, SlowPart

MANY = 3  # workers of one level, at least, that are a group
TOGETHER = 0.8  # part of the time of the longer one in which both of such workers are slow, at least


@dataclass(frozen=True)
class Group:
    """Workers that are slow together, or one that is slow by itself.

    Attributes
    ----------
    parts : list of SlowPart
        Of each worker, the worst first.
    host : str
        The host whose workers all are slow; empty: none.
    """

    parts: Sequence[SlowPart]
    host: str = ""

    @property
    def workers(self) -> tuple[int, ...]:
        """The workers in ascending order."""
        return tuple(sorted(each.worker for each in self.parts))

    @property
    def linked(self) -> bool:
        """Whether all workers of a host are slow in their link: in the one that they share."""
        return bool(self.host) and all(each.cause == "link" for each in self.parts)

    @property
    def name(self) -> str:
        """The workers in words."""
        return f"the {len(self.parts)} workers of {self.host}" if self.host else workers_named(self.workers)

    @property
    def machine(self) -> str:
        """What they run on, in words."""
        if self.host:
            return f"{'the link of ' if self.linked else ''}host {self.host}"
        several = self.parts[1:]
        return f"the machines of {self.name}" if several else f"{self.name}'s machine"

    def __str__(self) -> str:
        worst = self.parts[0]
        alike = [each for each in self.parts if each.pattern == worst.pattern]
        together = replace(
            worst,
            ratio=math.exp(sum(math.log(each.ratio) for each in alike) / len(alike)),
            low=min(each.low for each in alike), high=max(each.high for each in alike),
            share=sum(each.share for each in alike) / len(alike),
        )  # fmt: skip
        said = together.said(self.name, bool(self.parts[1:]))
        return f"{said}, in their common link" if self.linked else said


def hosts_of(trace: TraceReader) -> list[str]:
    """Return the host of each worker; empty if they have one, or hosts are not known."""
    hosts = [str(host) for host in trace.workers["host"]] if trace.workers.rows else []
    known = len(set(hosts)) > 1 and len(hosts) >= trace.worker_count
    return hosts[-trace.worker_count :] if known else []


def host_of(trace: TraceReader, workers: Collection[int]) -> str:
    """Return the host whose workers are these, all of them and two at least; empty: there is none."""
    hosts = hosts_of(trace)
    own = {host for worker, host in enumerate(hosts) if worker in workers}
    whole = len(own) == 1 and {worker for worker, host in enumerate(hosts) if host in own} == {*workers}
    return own.pop() if whole and len(workers) > 1 else ""


def grouped(trace: TraceReader, slow: Sequence[SlowPart]) -> list[Group]:
    """Group slow workers, the worst first; those that are like no others are a group each.

    All workers of a host are a group. So are `MANY` of the others with one pattern at the same time and one
    level: relative times within `LEAST`.
    """
    found, left = list[Group](), [*slow]
    hosts = hosts_of(trace)
    for host in dict.fromkeys(hosts[each.worker] for each in slow if hosts):
        own = [each for each in left if hosts[each.worker] == host]
        if own[1:] and len(own) == hosts.count(host):
            found.append(Group(own, host))
            left = [each for each in left if each not in own]
    while left:
        first, *_ = left
        alike = [each for each in left if _alike(first, each)]
        own = alike if len(alike) >= MANY else [first]
        found.append(Group(own))
        left = [each for each in left if each not in own]
    return sorted(found, key=lambda group: -group.parts[0].excess_ns)


def _alike(first: SlowPart, other: SlowPart) -> bool:
    """Return whether two workers are slow in the same way, at the same time, by as much."""
    both_ns = min(first.end_ns, other.end_ns) - max(first.begin_ns, other.begin_ns)
    longer_ns = max(each.end_ns - each.begin_ns for each in (first, other))
    if first.pattern != other.pattern or both_ns < TOGETHER * longer_ns:
        return False
    overlap = first.low <= other.high and other.low <= first.high
    return overlap or abs(math.log(first.ratio / other.ratio)) <= math.log1p(LEAST)
