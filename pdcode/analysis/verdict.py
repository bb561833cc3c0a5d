"""The words of a verdict: who waits for slow workers, and how severe that is, by what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import kinds
from ..schemes import Scheme
from ..trace.reader import TraceReader
from ..util.formats import rough_percent, span, three_digits
from . import description

if TYPE_CHECKING:
    from .diagnosis import Cause

WARNING, CRITICAL = 0.1, 0.2  # fractions of the time, from which a cost is one
NOBODY = "nobody waits for"


def worded(*statements: str, share: float = 0.0) -> str:
    """Join statements to a verdict, with the word for a cost of this fraction of the time; nan: not known."""
    word = "critical: " if share >= CRITICAL else "warning: " if share >= WARNING else ""
    return word + "; ".join(filter(None, statements))


def priced(cause: Cause, of: str) -> str:
    """Add to the statement on a cause the fraction that it costs of some time."""
    statement, many = cause.statement, len(cause.workers) > 1
    if NOBODY in statement and cause.share >= WARNING:
        statement += f", but {'their' if many else 'its'} work is missing"
    share, low, high = (rough_percent(each) for each in (cause.share, cause.low, cause.high))
    interval = f" ({span(low, high)})" if low != high else ""
    paid = f"{share} %{interval} of {of}" if cause.share >= 0.001 else "nothing"
    costs = "waiting takes" if cause.name == "the policy" else "they cost" if many else "it costs"
    return f"{statement}: {costs} {paid}"


def synchronous(trace: TraceReader) -> str:
    """Say for whom an update waits; empty if for nobody, or not known."""
    policy, n = description.policy_table(trace), trace.worker_count
    scheme = kinds.find("schemes", trace.table("scheme").get("name"))
    if n < 2 or getattr(scheme, "policy", Scheme.policy) is not Scheme.policy:  # a rule of its own
        return ""
    if (trace.is_script and not trace.is_unordered) or (policy and policy.complete):
        return f"each update waits for the slowest of {n:,} workers, whose tasks vary"
    wanted = policy and not policy.asynchronous and policy.min_payloads(n)
    return f"each update waits for {wanted} of {n:,} workers, whose tasks vary" if wanted else ""


def waiting(trace: TraceReader, many: bool) -> tuple[bool, str]:
    """Return whether all wait for slow workers, one or `many`, and who does, in words; empty: not known."""
    whom, policy = "them" if many else "it", description.policy_table(trace)
    scheme = kinds.find("schemes", trace.table("scheme").get("name"))
    if getattr(scheme, "policy", Scheme.policy) is not Scheme.policy:  # a rule of its own
        return False, ""
    if policy and policy.asynchronous:
        return False, f"{NOBODY} {whom}"
    if trace.is_script or (policy and policy.complete):
        return True, f"all wait for {whom}"
    wanted = policy and policy.min_payloads(trace.worker_count)
    return False, f"an update waits for {wanted} of {trace.worker_count:,} workers" if wanted else ""


def times(factor: float) -> str:
    """Format a factor in words: "8.46 times"."""
    return f"{three_digits(factor)} times"
