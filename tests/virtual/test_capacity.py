"""What one payload of every worker takes rank 0, by a formula and on the virtual clock."""

from collections.abc import Sequence

import pytest

from pdcode.config import load as configfile
from pdcode.session.setup import Components, prepare
from pdcode.virtual.capacity import Load, load_of, max_workers
from pdcode.virtual.schedule import bytes_per_coordinator
from pdcode.virtual.simulation import Simulation

MANY = [
    "problem.hidden=[16]", "problem.batch=8", "stop.seconds=1.5", "workers.count=12",
    "machine.arrival_s=2e-5", "machine.decode_bandwidth=1e8", "machine.update_s=1e-5", "machine.task_s=0.01",
]  # fmt: skip
UNCODED = ["scheme.name=uncoded", "optimizer.rate=0.01"]
EXCHANGED = ["scheme.preset=default", "optimizer.rate=0.1", "code.share=0.125"]
RELAYED = [*EXCHANGED, "downlink.kind=codewords"]
PARTS = "processor", "ingress", "egress"


def made(*settings: str) -> Components:
    return prepare(configfile.resolve({}, [*MANY, *settings]))


def both(*settings: str) -> tuple[Load, Sequence[float], float]:
    """The load, the shares of the time for which each part was busy, and arrivals a second."""
    components = made(*settings)
    _, result = Simulation(components).run()
    rate = (result.used + result.wasted) / result.seconds
    return load_of(components), [getattr(result, part) for part in PARTS], rate


@pytest.mark.parametrize(
    "settings",
    [
        [*UNCODED, "update.mode=async", "link.bandwidth=1e7"],
        [*UNCODED, "update.mode=async", "link.bandwidth=3e6", "machine.coordinators=4"],
        [*RELAYED, "link.bandwidth=5e6"],
        [*UNCODED, "update.mode=async", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.01"],
    ],
)
def test_with_few_workers_each_part_is_busy_for_its_share(settings: list[str]) -> None:
    need, shares, _ = both(*settings)
    assert need.bottleneck[1] < 0.7
    for part, share in zip(PARTS, shares, strict=True):
        assert share == pytest.approx(getattr(need, part), rel=0.12), part


def test_a_link_in_both_directions_is_busy_for_the_sum() -> None:
    need, shares, _ = both(*UNCODED, "update.mode=async", "link.bandwidth=2e7", "link.half_duplex=true")
    assert need.ingress == need.egress
    assert sum(shares[1:]) == pytest.approx(need.egress, rel=0.12)


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("processor", [*UNCODED, "machine.arrival_s=0.004"]),
        ("processor", [*UNCODED, "machine.decode_bandwidth=1e6", "machine.coordinators=2"]),
        ("ingress", [*UNCODED, "link.bandwidth=1e6"]),
        ("egress", [*RELAYED, "link.bandwidth=1e6"]),
    ],
)
def test_with_many_workers_arrivals_are_those_of_the_part_they_wait_for(part, settings):
    need, shares, rate = both("update.mode=async", "machine.task_s=0.001", *settings)
    assert need.bottleneck[0] == part
    assert need.bottleneck[1] > 1
    assert rate == pytest.approx(12 / need.task_s / need.bottleneck[1], rel=0.05)
    assert shares[PARTS.index(part)] > 0.95


def test_payloads_that_workers_exchange_are_limited_by_the_links_of_each() -> None:
    settings = "update.mode=async", "machine.task_s=0.001", "problem.hidden=[256]", "link.bandwidth=2e5"
    need, _, rate = both(*settings, *EXCHANGED)
    assert need.bottleneck[0] == "ingress"
    assert need.bottleneck[1] > 3
    assert rate == pytest.approx(12 / need.task_s / need.bottleneck[1], rel=0.05)
    relayed, _, _ = both(*settings, *RELAYED)
    assert relayed.egress > 4 * need.bottleneck[1]


@pytest.mark.parametrize("settings", [[*UNCODED, "update.mode=async"], RELAYED])
def test_rank_0_serves_as_many_workers_as_need_it_for_a_task(settings: list[str]) -> None:
    settings = [*settings, "link.bandwidth=3e7", "machine.flops_per_s=1e12"]  # replicas take no time
    most = max_workers(made(*settings))
    assert 12 < most < 1000
    for workers, waits in ((most, False), (most + 1, True)):
        own = f"workers.count={workers}"
        assert (load_of(made(*settings, own)).bottleneck[1] > 1) == waits


def test_workers_that_add_up_their_payloads_need_no_rank_0() -> None:
    assert load_of(made("scheme.name=allreduce")).bottleneck[1] == 0


def test_a_message_is_cut_into_equal_parts_with_a_header_each() -> None:
    assert bytes_per_coordinator(1000, 1) == 1000
    header = 64
    for size in (header, header + 1, header + 8, 1000):
        parts = bytes_per_coordinator(size, 8)
        assert 0 <= 8 * (parts - header) - (size - header) < 8
    assert bytes_per_coordinator(40, 8) == 40
