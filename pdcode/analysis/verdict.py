"""The words of a verdict: who waits for slow workers, and how severe that is, by what it costs."""

from ..config import kinds
from ..schemes import Scheme
from ..trace.reader import TraceReader
from ..util.formats import three_digits, two_digits
from . import description

WARNING, CRITICAL = 0.1, 0.2  # fractions of the time, from which a cost is one
NOBODY = "nobody waits for"


def worded(*statements: str, share: float = 0.0) -> str:
    """Join statements to a verdict, with the word for a cost of this fraction of the time; nan: not known."""
    word = "critical: " if share >= CRITICAL else "warning: " if share >= WARNING else ""
    return word + "; ".join(filter(None, statements))


def priced(statement: str, share: float, of: str, many: bool) -> str:
    """Add to a statement on one cause, or `many`, the fraction that they cost of some time."""
    if NOBODY in statement and share >= WARNING:
        statement += f", but {'their' if many else 'its'} work is missing"
    paid = f"{two_digits(100 * share)} % of {of}" if share >= 0.001 else "nothing"
    return f"{statement}: {'they cost' if many else 'it costs'} {paid}"


def waiting(trace: TraceReader, many: bool) -> tuple[bool, str]:
    """Return whether all wait for slow workers, one or `many`, and who does, in words; empty: not known."""
    whom, policy = "them" if many else "it", description.policy_table(trace)
    scheme = kinds.find("schemes", trace.table("scheme").get("name"))
    if getattr(scheme, "policy", Scheme.policy) is not Scheme.policy:  # a rule of its own
        return False, ""
    if trace.is_script or (policy and policy.complete):
        return True, f"all wait for {whom}"
    if policy and policy.asynchronous:
        return False, f"{NOBODY} {whom}"
    wanted = policy and policy.min_payloads(trace.worker_count)
    return False, f"an update waits for {wanted} of {trace.worker_count:,} workers" if wanted else ""


def times(factor: float) -> str:
    """Format a factor in words: "8.46 times"."""
    return f"{three_digits(factor)} times"
