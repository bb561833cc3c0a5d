"""Diagnoses of simulated runs: their costs and advice beside runs that do as they say."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import traces
from traces import JOB, SLOW

import pdcode
from pdcode.__main__ import main
from pdcode.analysis import critical_path, diagnosis, printing, remedies, statistics, what_if
from pdcode.schemes.lwpd import LWPD
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import CHECKPOINT, EVALUATION
from pdcode.util.errors import InputError


def simulate(path: Path, settings: Mapping[str, Any]) -> pdcode.Trace:
    return pdcode.simulate(JOB, output=path, set=settings, progress=False)


def workers_verdict(found: Any) -> str:
    """Return the verdict without the warning of a target that was missed, or of a loss that rose."""
    return re.sub(r"^warning: (target missed|the loss rose): [^;]*; ", "", found.verdict)


def seconds(text: str) -> float:
    """Read a duration."""
    value, unit = text.split()
    return float(value) * {"ms": 1e-3, "s": 1.0}[unit]


def tried(found: Any) -> list[tuple[list[str], float, float, float]]:
    """Return the commands of the advice, their predicted times, and the bounds of these."""
    time = r"([\d.]+ m?s)"
    said = re.findall(
        rf"pdcode run JOB.toml (.*?): predicted {time} \(([\d.]+)( m?s)? – {time}\)", found.next
    )
    return [
        (
            command.replace("-n ", "--set workers.count=").split("--set ")[1:],
            seconds(predicted),
            seconds(low + (unit or " " + high.split()[1])),
            seconds(high),
        )
        for command, predicted, low, unit, high in said
    ]


@pytest.mark.system
def test_costs_and_advice_are_those_of_runs_that_follow_them(tmp_path: Path) -> None:
    found = simulate(tmp_path / "slow.h5", SLOW).diagnose()
    assert re.match(
        r"critical: worker 7 is 5.\d+ times as slow as the others \(.*\) from the start; ", found.verdict
    )
    costs = rf"all wait for it: it costs {100 * found.share:.0f} % \(\d+ – \d+\) of the time to loss 0.5"
    assert re.search(costs, found.verdict)
    assert found.causes[0].name == "workers"
    assert found.causes[0].low < found.share == found.causes[0].share < found.causes[0].high
    assert " % injected delay" in found.why
    usual = simulate(tmp_path / "usual.h5", {}).summary()["target_s"]
    predicted = re.search(r"; ([\d.]+ m?s) \(.* m?s\) if worker 7 were as the others", found.cost)
    assert predicted is not None
    assert seconds(predicted[1]) == pytest.approx(usual, rel=0.15)
    assert len(tried(found)) == 3
    for keys, predicted_s, low_s, high_s in tried(found):
        settings = dict(each.strip().split("=") for each in keys)
        if "workers.count" in settings:
            settings = {"workers.count": 7, "stragglers.slow": [], "stragglers.slowdown": 1.0}
        followed = simulate(tmp_path / "followed.h5", {**SLOW, **settings}).summary()["target_s"]
        assert low_s < predicted_s < high_s
        assert low_s < followed < high_s


def test_the_command_of_the_advice_keeps_the_preset_that_auto_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key of [update] alone would undo it."""
    monkeypatch.setattr(LWPD, "candidates", {"ring": 1.0})
    monkeypatch.setattr(remedies, "POLICIES", remedies.POLICIES[:2])
    job, path = tmp_path / "JOB.toml", str(tmp_path / "a.h5")
    job.write_text(
        """
        problem = {data = "digits", hidden = [64]}
        workers.count = 8
        stop = {loss = 0.1, seconds = 20.0}
        faults.events = [{kind = "slow", worker = 3, factor = 8.0, at_s = 0.0}]
        """
    )
    assert main(["simulate", str(job), "-o", path]) == 0
    found = pdcode.Trace(path).diagnose()
    (keys, _, low_s, high_s) = next(each for each in tried(found) if "update.mode=first " in each[0])
    assert f"scheme.preset={pdcode.Trace(path).table('scheme')['preset']} " in keys
    settings = [word for each in keys for word in ("--set", each.strip())]
    assert main(["simulate", str(job), "-o", path, *settings]) == 0
    assert low_s < pdcode.Trace(path).summary()["target_s"] < high_s
    capsys.readouterr()


@pytest.mark.system
def test_how_slow_a_worker_of_few_tasks_is_so_far_counts_the_one_under_way(tmp_path: Path) -> None:
    law = {"kind": "shifted-exponential", "mean_s": 0.01, "slow": [7], "slowdown": 10.0}
    job = {"problem": {"data": "digits", "hidden": [64]}, "workers": {"count": 8}, "stragglers": law}
    for seed in (1, 2, 3):
        stop = {"seed": seed, "stop": {"loss": 0.05, "seconds": 20.0}}
        trace = pdcode.simulate(job | stop, output=tmp_path / "a.h5", progress=False)
        found = re.search(
            r"judge worker 7: (\d+) tasks where others did (\d+); so far ([\d.]+) times as slow",
            trace.diagnose().verdict,
        )
        assert found is not None
        assert float(found[3]) == pytest.approx(int(found[2]) / int(found[1]), rel=0.3)


def test_nobody_is_slow_by_the_order_in_which_rank_0_sends_tasks(tmp_path: Path) -> None:
    settings = {"stragglers.kind": "none", "workers.count": 15, "stop.loss": 0.1, "stop.updates": 60}
    short = simulate(tmp_path / "t.h5", settings)
    sent, begun = (short.arrivals[f"t_{name}_ns"] for name in ("dispatch", "start"))
    assert np.median((begun - sent)[short.arrivals["worker"] == 14]) > 3 * np.median(begun - sent) / 2
    assert short.diagnose().slow == ()


@pytest.mark.parametrize("scheme", [JOB["scheme"], {"name": "lwpd", "preset": "ring"}])
def test_a_sample_tells_the_same(scheme: dict[str, str], tmp_path: Path) -> None:
    slow = {"kind": "slow", "worker": 3, "at_s": 0.0, "factor": 10.0}
    job = {**JOB, "scheme": scheme, "stop": {"updates": 300}, "faults": {"events": [slow]}}
    job["stragglers"] = {"kind": "none"}
    parts = []
    for sample in (1, 20):
        recorded = {"trace.arrivals": "sampled", "trace.sample": sample}
        made = pdcode.simulate(job, output=tmp_path / f"{sample}.h5", set=recorded, progress=False)
        parts += made.diagnose().slow
    assert [(part.worker, part.cause) for part in parts] == [(3, "computing")] * 2
    assert parts[1].ratio == pytest.approx(parts[0].ratio, rel=0.05)
    assert parts[1].excess_ns == pytest.approx(parts[0].excess_ns, rel=0.1)


def test_where_workers_add_up_payloads_all_views_name_the_slow_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {**JOB, "scheme": {"name": "lwpd", "preset": "ring"}, "stop": {"updates": 60}}
    pdcode.simulate(job, output=tmp_path / "t.h5", set=SLOW, progress=False)
    assert main(["watch", str(tmp_path / "t.h5")]) == 0
    assert re.search(r"slowest: worker 7 \([56]\.", capsys.readouterr().out)
    assert main(["show", "--quick", str(tmp_path / "t.h5")]) == 0
    assert re.search(r"\n +7 +60 +\S+ ms +[56]\.\d+× ", capsys.readouterr().out)


def test_tasks_that_a_sample_lacks_are_not_outstanding(tmp_path: Path) -> None:
    sampled = {"stop.updates": 300, "stop.loss": 1e-9, "trace.arrivals": "sampled", "trace.sample": 25}
    found = simulate(tmp_path / "t.h5", sampled).diagnose()
    assert found.verdict.startswith("warning: target missed: loss ")
    assert workers_verdict(found).startswith("no worker is slow: ")


@pytest.mark.system
def test_two_slow_workers_hide_each_other(tmp_path: Path) -> None:
    found = simulate(tmp_path / "slow.h5", SLOW | {"stragglers.slow": [2, 7]}).diagnose()
    assert {part.worker for part in found.slow} == {2, 7}
    without, alone, none = map(seconds, re.findall(r"([\d.]+ m?s) \([^)]*\) if", found.cost))
    assert none < 0.5 * without
    assert without == pytest.approx(alone, rel=0.1)  # either of them


@pytest.mark.parametrize("scheme", [{"name": "allreduce"}, {"name": "lwpd", "preset": "default"}])
def test_where_all_wait_and_where_none_does(tmp_path: Path, scheme: dict[str, str]) -> None:
    job = {**JOB, "scheme": scheme, "stop": {"updates": 600 if "preset" in scheme else 60}}
    found = pdcode.simulate(job, output=tmp_path / "slow.h5", set=SLOW, progress=False).diagnose()
    assert [part.worker for part in found.slow] == [7]
    share = re.search(r"([\d.]+) % less", found.cost)
    assert share is not None
    assert (float(share[1]) > 60) == (scheme["name"] == "allreduce")


def test_the_first_screen_names_the_worker_the_time_the_cost_and_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printing, "PLAIN_WIDTH", 80)
    fault = {"kind": "slow", "worker": 5, "task": 60, "factor": 100.0}
    half = simulate(tmp_path / "half.h5", {"faults.events": [fault], "stop.loss": 0.2})
    assert what_if.Change().config(half).faults.events == []  # they are among the recorded times
    usual = simulate(tmp_path / "usual.h5", {"stop.loss": 0.2}).summary()["target_s"]
    assert main(["show", str(half.path)]) == 0
    screen = " ".join(" ".join(capsys.readouterr().out.splitlines()[:24]).split())
    own_s = half.summary()["target_s"]
    found = re.search(
        r"loss 0\.2 after (.*?s); (.*?s) (\(.*? – .*?\)) if worker 5 were as the others, [\d.]+ % less "
        r"\([\d.]+ – [\d.]+\) next ",
        screen,
    )
    assert found is not None
    assert seconds(found[1]) == pytest.approx(own_s, rel=0.01)
    assert seconds(found[2]) == pytest.approx(usual, rel=0.15)
    assert re.search(
        r"critical: worker 5 is .* since its task (59|60|61) \(after .*s\); all wait for it", screen
    )
    assert re.search(r"longer than the others', .*; certain after \d tasks cost ", screen)
    assert re.search(r"next .*pdcode run JOB.toml --set", screen)
    assert f"replace worker 5's machine: predicted {found[2]} {found[3]}" in screen


@pytest.mark.system
def test_a_job_until_a_time_limit_is_judged_by_its_time_to_a_loss(tmp_path: Path) -> None:
    scheme = {"scheme.name": "lwpd", "scheme.preset": "default", "optimizer.rate": 1.0}
    made = simulate(tmp_path / "slow.h5", {**SLOW, **scheme, "stop.loss": 1e-9, "stop.seconds": 1.0})
    found = made.diagnose()
    *_, (level, (_, time_ns)) = statistics.milestones(made.progress)
    assert time_ns < 0.95e9
    said = re.search(
        rf"; nobody waits for it, but its work is missing: it costs (.*) % \(.*\) of the time to loss "
        rf"{level:g}; "
        "waiting for all would take (.*) times as long$",
        found.verdict,
    )
    assert said is not None
    assert re.match(rf"loss {level:g} after .* m?s; .* % less \(.* – .*\)", found.cost)

    def reached_s(name: str, changes: Mapping[str, Any]) -> float:
        # A preset that is set has its own rate, whatever the job's is.
        own = {} if "scheme.preset" in changes else scheme
        until = {**own, "stop.loss": level, "trace.progress_s": 0.004, **changes}
        runs = [simulate(tmp_path / f"{name}{seed}.h5", {**until, "seed": seed}) for seed in (13, 14)]
        return float(np.exp(np.mean([np.log(run.summary()["target_s"]) for run in runs])))

    assert "critical" not in made.diagnose(what_if=False).verdict  # by the ratio alone
    own_s = reached_s("own", SLOW)
    assert found.share == pytest.approx(1 - reached_s("usual", {}) / own_s, abs=0.1)
    for keys, _, low_s, high_s in tried(found):
        settings = dict(each.strip().split("=") for each in keys)
        if "workers.count" in settings:
            settings = {"workers.count": 7, "stragglers.slow": [], "stragglers.slowdown": 1.0}
        assert 0.9 * low_s < reached_s("followed", {**SLOW, **settings}) < 1.1 * high_s
    assert float(said[2]) == pytest.approx(reached_s("all", {**SLOW, "update.mode": "all"}) / own_s, rel=0.2)


@pytest.mark.every(2)
@pytest.mark.parametrize("mode", ["all", "first", "async"])
@pytest.mark.parametrize("factor", [1.3, 1.7, 6.0])
def test_the_word_and_the_advice_follow_from_the_cost(mode: str, factor: float, tmp_path: Path) -> None:
    slow = {"stragglers.slow": [7], "stragglers.slowdown": factor, "update.mode": mode, "stop.loss": 1e-9}
    stop = {"stop.updates": 600 if mode == "async" else 100, "problem.kind": "softmax"}
    found = simulate(tmp_path / "t.h5", {**slow, **stop}).diagnose()
    assert [part.worker for part in found.slow] == [7]
    word = "critical: " if found.share >= 0.2 else "warning: " if found.share >= 0.1 else ""
    assert workers_verdict(found).startswith(f"{word}worker 7 is ")
    assert found.next.startswith("nothing: with worker 7 as the others, ") == (word == "")
    assert (mode, factor) != ("all", 6.0) or word == "critical: "
    assert mode == "all" or word != "critical: "


def test_workers_of_which_little_has_come_are_not_called_quick(tmp_path: Path) -> None:
    slowdown = {
        "stragglers.slow": [7],
        "stragglers.slowdown": 12.0,
        "stop.loss": 1e-9,
        "update.mode": "async",
    }
    found = simulate(tmp_path / "few.h5", {**slowdown, "stop.seconds": 0.35}).diagnose()
    assert found.slow == ()
    assert re.fullmatch(
        r"too early to judge worker 7: \d tasks where others did \d\d; so far [\d.]+ times as slow; "
        "no other worker is slow",
        workers_verdict(found),
    )
    found = simulate(tmp_path / "none.h5", {**slowdown, "stop.seconds": 0.06}).diagnose()
    assert workers_verdict(found).startswith(
        "too early to judge worker 7: 0 tasks where others did 9; no other"
    )
    late = {"kind": "delay", "worker": 6, "task": 0, "delay_s": 0.1, "for_s": 1e5}
    slowdown |= {"stragglers.slowdown": 3.0, "faults.events": [late], "stop.seconds": 0.35}
    found = simulate(tmp_path / "two.h5", slowdown).diagnose()
    assert [part.worker for part in found.slow] == [7]
    assert re.search(
        "it costs .* time; .*; too early to judge worker 6: 3 tasks where others did", found.verdict
    )


def test_slow_workers_that_cost_nothing_do_not_hide_rank_0(tmp_path: Path) -> None:
    busy = {
        **SLOW,
        "update.mode": "async",
        "machine.arrival_s": 0.002,
        "stop.updates": 800,
        "stop.loss": 1e-9,
    }
    found = simulate(tmp_path / "busy.h5", busy).diagnose()
    assert re.match(
        r"critical: rank 0 is the bottleneck, .* % \(.*\) of the run's time; worker 7 is ",
        workers_verdict(found),
    )
    assert "nobody waits for it: it costs nothing" in found.verdict
    assert (found.bottleneck, [part.worker for part in found.slow]) == ("rank 0", [7])


UPDATES = {"stop.updates": 120, "stop.loss": 1e-9}
COSTLY = {  # settings, and the causes that cost something, the one that costs most first
    "rank 0 beside a slow worker": (
        {"machine.arrival_s": 0.003, "stragglers.slow": [7], "stragglers.slowdown": 3.0},
        ["rank 0", "worker 7"],
    ),
    "a slow worker beside rank 0": (
        {"machine.arrival_s": 0.002, "stragglers.slow": [7], "stragglers.slowdown": 15.0},
        ["worker 7"],
    ),
    "the link, for less than half of the time": ({"link.bandwidth": 2.5e6}, ["the link"]),
    "the reduction": ({"reduce.kind": "allreduce", "link.bandwidth": 5e5}, ["the reduction"]),
    "sometimes": (
        {
            "faults.events": [
                {"kind": "drop", "worker": 1, "task": 0, "for_s": 1e5, "share": 0.2, "timeout_s": 0.1}
            ]
        },
        ["worker 1"],
    ),
}


@pytest.mark.parametrize("name", COSTLY)
def test_causes_are_ranked_by_their_cost(name: str, tmp_path: Path) -> None:
    """Each cost is near that of a run without the cause; the first is the largest on the account, too."""
    settings, causes = COSTLY[name]
    trace = simulate(tmp_path / "run.h5", {**UPDATES, **settings})
    found = trace.diagnose()
    named = re.findall(r"(rank 0|the link|the reduction|worker \d)(?= is )", workers_verdict(found))
    assert named == causes
    assert workers_verdict(found).startswith("critical: ")
    without = {
        "rank 0": {"machine.arrival_s": 0.0, "machine.dispatch_s": 0.0, "machine.update_s": 0.0},
        "the link": {"link.bandwidth": 1e15, "link.latency_s": 0.0},
        "the reduction": {"link.bandwidth": 1e15, "link.latency_s": 0.0},
    }.get(causes[0], {})
    if not without:
        settings = {key: value for key, value in settings.items() if key.startswith("machine")}
    usual = simulate(tmp_path / "usual.h5", {**UPDATES, **settings, **without}).summary()["seconds"]
    assert found.share == pytest.approx(1 - usual / trace.summary()["seconds"], abs=0.06)
    spent = trace.account()
    if worker := re.match(r"worker (\d)", causes[0]):
        assert spent.workers[0] == int(worker[1])
    else:
        parts = [spent.by_part.get(part, 0.0) for part in diagnosis.PLACES[causes[0]].values()]
        assert sum(parts) > 0.9 * found.share * spent.length_ns


def test_of_a_healthy_run_that_cannot_be_predicted_nothing_is_said_of_costs(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    found = simulate(tmp_path / "run.h5", {**UPDATES, "plugins": [str(tmp_path / "mine.py")]}).diagnose()
    assert found.verdict.startswith("no worker is slow") or "; no worker is slow" in found.verdict
    assert found.cost == ""


def test_a_script_that_is_bound_by_its_reduction(tmp_path: Path) -> None:
    work_s = 0.1 * np.exp(0.1 * np.random.default_rng(1).standard_normal((60, 4)))
    found = pdcode.Trace(traces.script(tmp_path / "ddp.h5", work_s, 0.2).path).diagnose()
    assert found.verdict.startswith("critical: the reduction is the bottleneck")
    assert found.share == pytest.approx(0.2 / (0.2 + work_s.max(axis=1).mean()), abs=0.02)
    said = re.match(r"twice the work a step, .*?: predicted (.*? s) .*; or fewer bytes a step", found.next)
    assert said is not None
    half_s = 60 * (work_s.max(axis=1).mean() + 0.1)
    assert seconds(said[1]) == pytest.approx(half_s, rel=0.02)
    found = pdcode.Trace(traces.script(tmp_path / "bytes.h5", work_s, 0.2, size=4_000_000).path).diagnose()
    said = re.search(r"half the bytes, .*?: predicted (.*? s) .*?, if the reduction's ", found.next)
    assert said is not None
    assert seconds(said[1]) == pytest.approx(half_s, rel=0.02)


def test_steps_whose_common_part_wanders_hide_no_slow_rank(tmp_path: Path) -> None:
    """As on a busy machine: each reduction takes about as long as the one before."""
    for seed in range(8):
        random = np.random.default_rng(seed)
        logs = random.standard_normal(30)
        for step in range(1, 30):
            logs[step] = 0.8 * logs[step - 1] + 0.6 * logs[step]
        work_s = 0.02 * np.exp(0.05 * random.standard_normal((30, 4)))
        for slow_s in (work_s[10:, 2].copy(), 0.2):
            work_s[10:, 2] = slow_s
            trace = traces.script(tmp_path / f"{seed}.h5", work_s, 0.02 * np.exp(logs))
            found = pdcode.Trace(trace.path).diagnose(what_if=False)
            assert [part.worker for part in found.slow] == ([2] if np.isscalar(slow_s) else [])


def test_a_host_whose_workers_are_all_slow_is_named(tmp_path: Path) -> None:
    work_s = 0.1 * np.exp(0.1 * np.random.default_rng(1).standard_normal((60, 8)))
    work_s[:, 2:4] *= 2
    found = pdcode.Trace(traces.script(tmp_path / "a.h5", work_s, 0.02, hosts=4).path).diagnose()
    assert found.verdict.startswith("critical: the 2 workers of node1 are 1.")
    assert found.next.startswith("replace host node1: predicted ")
    work_s[:, 3] /= 2
    found = pdcode.Trace(traces.script(tmp_path / "b.h5", work_s, 0.02, hosts=4).path).diagnose()
    assert found.why.endswith("; it runs on node1")


@pytest.mark.parametrize(
    ("slow", "hosts", "said"),
    [
        ((2, 3), 4, r"the 2 workers of node1 are \S+ times as slow as the others (.*) from the start"),
        ((4, 5, 6, 7), 1, r"workers 4, 5, 6 and 7 are \S+ times as slow as the others (.*) from the start"),
        ((0, 1, 2, 3, 4, 5), 4, r"two classes of workers: .* are \S+ times as slow as all workers of node3"),
    ],
)
def test_a_group_is_one_cause_with_the_cost_of_a_run_without_it(
    slow: tuple[int, ...], hosts: int, said: str, tmp_path: Path
) -> None:
    """Each of its workers alone would cost nothing, as the others of the group are as slow."""
    usual_s, drawn_s = (
        0.1 * np.exp(0.1 * np.random.default_rng(seed).standard_normal((60, 8))) for seed in (1, 2)
    )
    work_s = drawn_s.copy()
    work_s[:, slow] *= 2.2
    found = pdcode.Trace(traces.script(tmp_path / "a.h5", work_s, 0.02, hosts=hosts).path).diagnose()
    assert re.match(f"critical: {said}; all wait for them: they cost", found.verdict)
    cause, *_ = found.causes
    assert (cause.name, cause.workers) == ("workers", slow)
    without_s = usual_s.max(axis=1) + 0.02
    share = 1 - without_s.sum() / (work_s.max(axis=1) + 0.02).sum()
    assert cause.low - 0.02 < share < cause.high + 0.02
    assert cause.share == pytest.approx(share, abs=0.03)
    assert found.cost.count(" s (") == 1


@pytest.mark.parametrize("slow", [1.0, 2.0])
def test_first_steps_that_take_all_ranks_long_are_a_cause_of_their_own(slow: float, tmp_path: Path) -> None:
    """As where each rank compiles: without them the run has such steps as its others."""
    work_s = 0.1 * np.exp(0.05 * np.random.default_rng(1).standard_normal((60, 4)))
    work_s[:, 3] *= slow
    usual_s = (work_s.max(axis=1) + 0.02).sum()
    work_s[:2] *= 80
    took_s = (work_s.max(axis=1) + 0.02).sum()
    trace = pdcode.Trace(traces.script(tmp_path / "compiles.h5", work_s, 0.02).path)
    found = trace.diagnose()
    start = found.causes[0]
    assert (start.name, found.causes[1].name) == ("the start", "workers" if slow > 1 else "the reduction")
    assert start.share == pytest.approx(1 - usual_s / took_s, abs=0.01)
    assert start.low < start.share < start.high
    said = r"critical: the start takes .* s, with 2 first steps that took all workers long: it costs "
    assert re.match(said, found.verdict)
    part = trace.account().by_part["start"] / trace.account().length_ns
    assert start.share == pytest.approx(part - 2 * usual_s / 60 / took_s, abs=0.01)
    ten = r"nothing: it comes once, and is .* % of a run of ten times as many steps"
    assert re.match("replace worker 3's machine" if slow > 1 else ten, found.next)


@pytest.mark.parametrize(("mode", "updates"), [("all", 100), ("async", 500)])
def test_first_tasks_that_take_all_workers_long_cost_what_a_run_without_them_saves(
    mode: str, updates: int, tmp_path: Path
) -> None:
    """They neither hide a slow worker nor spoil its cost."""
    delays_s = 0.01 * np.random.default_rng(2).lognormal(0, 0.3, (8, 120))
    settings = {**UPDATES, "update.mode": mode, "stop.updates": updates}
    delays_s[3] += 0.02

    def run(name: str, times_s: np.ndarray) -> pdcode.Trace:
        np.savetxt(tmp_path / f"{name}.csv", times_s, delimiter=",")
        law = {"kind": "trace", "path": str(tmp_path / f"{name}.csv"), "draw": "replay"}
        job = {**JOB, "stragglers": law}
        return pdcode.simulate(job, output=tmp_path / f"{name}.h5", set=settings, progress=False)

    usual, long, quick = run("usual", delays_s), delays_s.copy(), delays_s.copy()
    long[:, :2] += 0.4
    trace = run("long", long)
    quick[:, :2], quick[3] = long[:, :2], quick[2]
    found, took_s = trace.diagnose(), trace.summary()["seconds"]
    assert [part.worker for part in found.slow] == [3]
    costs = {cause.name: cause.share for cause in found.causes}
    assert costs["the start"] == pytest.approx(1 - usual.summary()["seconds"] / took_s, abs=0.03)
    without_3 = 1 - run("quick", quick).summary()["seconds"] / took_s
    assert costs["workers"] == pytest.approx(without_3, abs=0.03)
    said = "the start takes .* ms, with 2 first tasks that took all workers long: it costs "
    assert re.search(said, found.verdict)
    account = trace.account()
    start = 1e9 * took_s * costs["the start"]
    assert account.by_part["start"] == pytest.approx(start, rel=0.1)
    assert "the start" not in [cause.name for cause in usual.diagnose().causes]


@pytest.mark.parametrize("slow", [1.0, 4.0])
def test_a_phase_that_costs_all_ranks_is_a_cause_and_that_of_a_slow_rank_is_its_own(
    slow: float, tmp_path: Path
) -> None:
    """Without loading, steps take what the passes do, and what one rank loads longer than a usual one."""
    random = np.random.default_rng(1)
    passes_s, loading_s = (each * np.exp(0.1 * random.standard_normal((80, 4))) for each in (0.06, 0.04))
    excess_s = (slow - 1) * loading_s * (np.arange(4) == 2)
    work_s = passes_s + loading_s + excess_s
    trace = traces.script(tmp_path / "loads.h5", work_s, 0.01, loading_s=loading_s + excess_s)
    found = pdcode.Trace(trace.path).diagnose()
    took_s = (work_s.max(axis=1) + 0.01).sum()
    causes = {each.name: each for each in found.causes}
    without_s = ((passes_s + excess_s).max(axis=1) + 0.01).sum()
    assert causes["loading"].share == pytest.approx(1 - without_s / took_s, abs=0.02)
    assert causes["loading"].low < causes["loading"].share < causes["loading"].high
    assert [part.worker for part in found.slow] == ([2] if slow > 1 else [])
    if slow > 1:
        assert re.match(r"critical: worker 2 is .* from the start, in loading; all wait", found.verdict)
        assert "; loading takes " in found.verdict
        usual_s = ((passes_s + loading_s).max(axis=1) + 0.01).sum()
        assert causes["workers"].share == pytest.approx(1 - usual_s / took_s, abs=0.03)
    else:
        assert re.match(r"critical: loading takes .* % of the time, in all workers: it costs", found.verdict)
        assert found.next.startswith("load in the background, DataLoader(")


def behind_a_slow_link(trace: pdcode.Trace, workers: Sequence[int], late_s: float) -> pdcode.Trace:
    """Let payloads of a host's workers come later, in a run in which all wait for all."""
    rows, updates_ns = trace.arrivals, trace.updates["t_ns"]
    own = round(1e9 * late_s) * np.isin(rows["worker"], workers)
    last_ns = np.zeros((2, len(updates_ns)), np.int64)
    inside = rows["version"] < len(updates_ns)
    for place, ends_ns in enumerate((rows["t_recv_ns"], rows["t_recv_ns"] + own)):
        np.maximum.at(last_ns[place], rows["version"][inside], ends_ns[inside])
    later_ns = np.concatenate(([0], np.cumsum(last_ns[1] - last_ns[0])))  # by version
    with h5py.File(trace.path, "r+") as file:
        table = file["arrivals"]
        for name in (each for each in table if each.startswith("t_")):
            shifted = rows[name] + later_ns[np.minimum(rows["version"], len(updates_ns))]
            table[name][:] = shifted + own * (name in ("t_recv_ns", "t_decoded_ns"))
        file["updates/t_ns"][:] = updates_ns + later_ns[1:]
        shifted = (
            file["progress/t_ns"][:] + later_ns[np.minimum(file["progress/version"][:], len(updates_ns))]
        )
        file["progress/t_ns"][:] = shifted
        file["checkpoint"].attrs["t_stop_ns"] += later_ns[-1]
        hosts = file["workers/host"]
        hosts[len(hosts) - trace.worker_count :] = [
            "node1" if worker in workers else "node2" for worker in range(trace.worker_count)
        ]
    return pdcode.Trace(trace.path)


def test_the_common_link_of_a_host_costs_what_a_run_without_it_saves(tmp_path: Path) -> None:
    usual_s = (made := simulate(tmp_path / "a.h5", UPDATES)).summary()["seconds"]
    trace = behind_a_slow_link(made, (4, 5, 6), 0.05)
    took_s = trace.summary()["seconds"]
    assert took_s > 1.5 * usual_s
    found = trace.diagnose()
    said = r"critical: the 3 workers of node1 are .*, in their common link; all wait for them: they cost"
    assert re.match(said, workers_verdict(found))
    assert found.causes[0].workers == (4, 5, 6)
    assert found.causes[0].share == pytest.approx(1 - usual_s / took_s, abs=0.03)
    assert "replace the link of host node1: predicted " in found.next


PAUSE_S = 0.08


def with_pauses(trace: pdcode.Trace, what: int) -> pdcode.Trace:
    """Put a pause of rank 0's behind each tenth update of a run in which all wait for all."""
    at_ns = trace.updates["t_ns"][::10]
    length_ns = round(1e9 * PAUSE_S)
    with h5py.File(trace.path, "r+") as file:
        for table in ("arrivals", "updates", "progress"):
            for name in (each for each in file[table] if each.startswith("t_")):
                column = file[table][name]
                times_ns = column[:]
                side = "right" if name == "t_dispatch_ns" else "left"
                column[:] = times_ns + length_ns * np.searchsorted(at_ns, times_ns, side)
        file["checkpoint"].attrs["t_stop_ns"] += length_ns * len(at_ns)
        begins_ns = at_ns + length_ns * np.arange(len(at_ns))
        for name, values in (("t_ns", begins_ns), ("spent_ns", length_ns), ("what", what)):
            file["pauses"][name].resize((len(at_ns),))
            file["pauses"][name][:] = values
    return pdcode.Trace(trace.path)


@pytest.mark.parametrize(
    ("what", "name", "key"),
    [
        (EVALUATION, "evaluation", "measure the loss 10 times more seldom, .* --set trace.progress_s="),
        (CHECKPOINT, "checkpoint", "write checkpoints 10 times more seldom, .* --set trace.checkpoint_s="),
    ],
)
def test_pauses_cost_what_a_run_without_them_saves_and_stay_where_another_cause_is_gone(
    what: int, name: str, key: str, tmp_path: Path
) -> None:
    usual_s = simulate(tmp_path / "usual.h5", UPDATES).summary()["seconds"]
    slow = {**UPDATES, **SLOW, "stragglers.slowdown": 2.0}
    plain_s = (made := simulate(tmp_path / "slow.h5", slow)).summary()["seconds"]
    trace = with_pauses(made, what)
    took_s = trace.summary()["seconds"]
    assert took_s == pytest.approx(plain_s + 12 * PAUSE_S)
    causes = {each.name: each for each in trace.diagnose().causes}
    assert causes[name].share == pytest.approx(1 - plain_s / took_s, abs=0.01)
    assert causes[name].low < causes[name].share < causes[name].high
    without_s = usual_s + 12 * PAUSE_S
    assert causes["workers"].share == pytest.approx(1 - without_s / took_s, abs=0.03)
    found = with_pauses(simulate(tmp_path / "usual.h5", UPDATES), what).diagnose()
    assert found.causes[0].name == name
    advice = re.match(rf"{key}(\S+): predicted (\S+ m?s) ", found.next)
    assert advice is not None
    assert float(advice[1]) == pytest.approx((usual_s + 12 * PAUSE_S) / 12 * 10, rel=0.05)
    assert seconds(advice[2]) == pytest.approx(usual_s + 1.2 * PAUSE_S, rel=0.02)


def test_the_cost_of_a_slow_rank_of_a_script(tmp_path: Path) -> None:
    work_s = 0.1 * np.exp(0.1 * np.random.default_rng(1).standard_normal((60, 4)))
    usual_s = work_s.max(axis=1).sum() + 60 * 0.02
    work_s[30:, 2] += 0.2
    trace = pdcode.Trace(traces.script(tmp_path / "ddp.h5", work_s, 0.02).path)
    found = trace.diagnose()
    cost = re.match(r"the run took (.*s); (.*?s) \(.*s\) if worker 2 were as the others, ", found.cost)
    assert cost is not None
    assert seconds(cost[1]) == pytest.approx(work_s.max(axis=1).sum() + 60 * 0.02, rel=0.01)
    assert seconds(cost[2]) == pytest.approx(usual_s, rel=0.05)
    assert found.next.endswith(f"; pdcode plan --trace {trace.path} --like CONFIG searches for more")


def test_the_predicted_time_of_moved_work_is_that_of_the_shares_it_names(tmp_path: Path) -> None:
    work_s = 0.1 * np.exp(0.05 * np.random.default_rng(1).standard_normal((60, 4)))
    work_s[:, 1] *= 3
    work_s[:, 2] *= 2
    found = pdcode.Trace(traces.script(tmp_path / "two.h5", work_s, 0.02).path).diagnose()
    said = re.search(
        r"worker 1 (\S+) of its work, worker 2 (\S+) and the others (\S+): predicted (\S+ m?s)", found.next
    )
    assert said is not None
    shares = np.array([float(said[each]) for each in (3, 1, 2, 3)])
    assert shares.sum() == pytest.approx(4, abs=0.03)
    assert seconds(said[4]) == pytest.approx((work_s * shares).max(axis=1).mean() + 0.02, rel=0.02)


def test_what_a_rank_does_in_each_eighth_step_is_to_be_taken_off_it(tmp_path: Path) -> None:
    work_s = 0.1 * np.exp(0.05 * np.random.default_rng(1).standard_normal((160, 4)))
    work_s[7::8, 0] += 0.5
    found = pdcode.Trace(traces.script(tmp_path / "saves.h5", work_s, 0.02).path).diagnose()
    assert found.next.startswith("take what worker 0 does in one step of 8 off it, as to a thread: ")
    assert "of its work" not in found.next  # saving does not take less time with fewer rows


def test_work_that_is_moved_late_in_a_run_does_not_gain_more_than_another_machine(tmp_path: Path) -> None:
    work_s = 0.1 * np.exp(0.05 * np.random.default_rng(1).standard_normal((60, 4)))
    work_s[30:, 1] *= 3
    found = pdcode.Trace(traces.script(tmp_path / "late.h5", work_s, 0.02).path).diagnose()
    assert found.next.startswith("replace worker 1's machine: ")
    assert "; or give worker 1 " in found.next


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("where", "narrow", "free"),
    [
        ("rank 0", {"machine.arrival_s": 0.004}, {"machine.arrival_s": 0.0}),
        ("the link", {"link.bandwidth": 3e5}, {"link.bandwidth": 1e18, "link.latency_s": 0.0}),
    ],
)
def test_the_cost_of_a_bottleneck(where: str, narrow: Any, free: Any, tmp_path: Path) -> None:
    found = simulate(tmp_path / "narrow.h5", narrow).diagnose()
    assert (found.bottleneck, found.slow) == (where, ())
    assert found.verdict.startswith(f"critical: {where} is the bottleneck")
    cost = re.match(rf"loss 0.5 after (.*s); (.*?s) \(.*s\) if {where} took no time, ", found.cost)
    assert cost is not None
    assert seconds(cost[1]) == pytest.approx(
        pdcode.Trace(tmp_path / "narrow.h5").summary()["target_s"], rel=0.01
    )
    assert seconds(cost[2]) == pytest.approx(
        simulate(tmp_path / "f.h5", free).summary()["target_s"], rel=0.15
    )
    assert "sums by the workers, pdcode run JOB.toml --set reduce.kind=allreduce: predicted" in found.next
    for keys, _, low_s, high_s in tried(found):
        settings = dict(each.strip().split("=") for each in keys)
        followed = simulate(tmp_path / "followed.h5", {**narrow, **settings}).summary()["target_s"]
        assert low_s < followed < high_s


def test_the_link_does_not_take_the_time_of_earlier_messages_of_a_task(tmp_path: Path) -> None:
    job = {**JOB, "scheme": {"name": "streaming"}, "optimizer": {}, "stop": {"updates": 200}}
    trace = TraceReader(pdcode.simulate(job, output=tmp_path / "t.h5", progress=False).path)
    assert trace.arrivals["part"].max() > 0
    assert diagnosis.diagnose(trace).bottleneck == ""
    arrivals = {name: trace.arrivals[name] for name in trace.arrivals}
    split = critical_path.stages(arrivals, trace.updates["t_ns"])
    assert (split >= 0).all()
    np.testing.assert_array_equal(split.sum(axis=0), arrivals["t_decoded_ns"] - arrivals["t_dispatch_ns"])
    first, later = arrivals["part"] == 0, arrivals["part"] > 0
    assert split[0, later].max() <= split[0, first].max()


def test_the_goodput_of_gradients_that_come_in_two_rounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {**JOB, "scheme": {"name": "powersgd"}, "optimizer": {}, "stop": {"updates": 50}}
    run = pdcode.simulate(job, output=tmp_path / "t.h5", progress=False)
    assert main(["show", "--quick", str(run.path)]) == 0
    goodput = re.search(r"goodput: ([\d,]+) training rows a second", capsys.readouterr().out)
    assert goodput is not None
    rows = 50 * 8 * int(run.attributes["task_rows"])
    assert int(goodput[1].replace(",", "")) == pytest.approx(rows / run.summary()["seconds"], rel=0.01)


def test_no_verdict_without_a_slow_worker(tmp_path: Path) -> None:
    found = simulate(tmp_path / "usual.h5", {"stragglers.mean_s": 0.0001}).diagnose()
    assert found.verdict.startswith("no worker is slow: ")
    assert found.lines() == [("verdict", found.verdict)]
    assert [cause.name for cause in found.causes if cause.share >= 0.1] == []
    found = simulate(tmp_path / "short.h5", {"stop.updates": 5}).diagnose()
    assert found.verdict.endswith("; insufficient evidence")
    assert found.missing == "5 tasks of a worker at most, of the 8 that a verdict needs"


def test_recorded_workers_can_be_replaced(tmp_path: Path) -> None:
    made = simulate(tmp_path / "slow.h5", SLOW)
    table = {"kind": "trace", "path": str(made.path), "draw": "replay"}

    def again(replaced: list[int], key: str = "replaced") -> dict[str, Any]:
        job = JOB | {"stragglers": table | {key: replaced}}
        return pdcode.simulate(job, output=tmp_path / "again.h5", progress=False).summary()

    times = [again([]), again([7])]
    assert times[0]["target_s"] == pytest.approx(made.summary()["target_s"], rel=0.05)
    assert times[1]["target_s"] < 0.4 * times[0]["target_s"]
    for key, wrong in itertools.product(("replaced", "dropped"), ([8], [*range(8)])):
        with pytest.raises(InputError, match=rf"stragglers.{key}: .*: some of workers 0 to 7, not all"):
            again(wrong, key)


def test_no_file_that_a_trace_names_is_imported(tmp_path: Path) -> None:
    made = simulate(tmp_path / "slow.h5", SLOW)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n\n\ndef f(*_): ...\n")
    with h5py.File(made.path, "r+") as file:
        resolved = json.loads(file.attrs["config_resolved"])
        names = dict.fromkeys(("function", "start", "data"), f"{tmp_path / 'evil.py'}:f")
        resolved["problem"] = {"kind": "function", **names}
        file.attrs["config_resolved"] = json.dumps(resolved)
    trace = pdcode.Trace(made.path)
    assert "not imported, because the run's plug-ins lack it" in trace.diagnose().cost
    for use in (trace.replay, trace.model, lambda: pdcode.simulate(trace, output=tmp_path / "again.h5")):
        with pytest.raises(InputError, match="not imported"):
            use()
    assert not (tmp_path / "marker").exists()


def test_what_is_wrong_with_the_loss_comes_first_and_the_severity_is_that_of_the_cost(tmp_path: Path) -> None:
    made = simulate(tmp_path / "slow.h5", {**SLOW, "stop.loss": 1e-9, "stop.seconds": 1.0})
    for found in made.diagnose(what_if=False), made.diagnose():
        assert found.verdict.startswith("warning: target missed: loss ")
        assert workers_verdict(found).startswith("critical: worker 7 is ")
    quick = made.diagnose(what_if=False)
    cause = diagnosis.Cause("workers", quick.statements[0], 0.15, 0.12, 0.18)
    found = quick.costing(cause, "the run's time", "a cost", "waiting would take longer")
    assert found.verdict.startswith("warning: worker 7 is ")
    assert found.verdict.endswith(
        "all wait for it: it costs 15 % (12 – 18) of the run's time; waiting would take longer"
    )
    assert (found.share, found.cost) == (0.15, "a cost")


def test_stalls_that_come_back_are_priced(tmp_path: Path) -> None:
    stops = [{"kind": "stop", "worker": 3, "task": task, "for_s": 1.0} for task in (10, 50)]
    trace = simulate(tmp_path / "run.h5", {**UPDATES, "faults.events": stops})
    found = trace.diagnose()
    assert re.match(
        r"critical: worker 3 is slow again and again: 2 of its tasks took 1\.0\d s to 1\.0\d s, ",
        workers_verdict(found),
    )
    stalls, *_ = found.causes
    usual_s = simulate(tmp_path / "usual.h5", UPDATES).summary()["seconds"]
    assert stalls.name == "stalls"
    assert stalls.share == pytest.approx(1 - usual_s / trace.summary()["seconds"], abs=0.03)
    once = simulate(tmp_path / "once.h5", {**UPDATES, "faults.events": stops[:1]}).diagnose()
    assert "worker 3 is slow once: its task 10 took 1.0" in once.verdict


def test_tasks_that_are_uneven_are_a_cause_of_their_own(tmp_path: Path) -> None:
    """Without it each update takes the mean of a task, not the longest of eight."""
    law = {
        "stragglers.shift_s": 0.0,
        "stragglers.mean_s": 0.005,
        "stop.loss": 1e-9,
        "stop.updates": 300,
    }
    trace = simulate(tmp_path / "run.h5", law)
    found = trace.diagnose()
    assert re.match(
        r"no worker is slow.*; each update waits for the slowest of 8 workers, whose tasks vary: "
        r"waiting takes \d+ % \(.*\) of the run's time$",
        workers_verdict(found),
    )
    assert found.share > 0.2
    (policy,) = found.causes
    rows = trace.arrivals
    even_s = 1e-9 * 300 * np.mean(rows["t_send_ns"] - rows["t_start_ns"])
    assert policy.name == "the policy"
    assert policy.low < 1 - even_s / trace.summary()["seconds"] < policy.high


@pytest.mark.filterwarnings("error")
def test_a_loss_that_other_draws_have_at_their_start_is_no_length(tmp_path: Path) -> None:
    """The data of a third seed have a first loss below the target: its descent takes no time."""
    job = {
        "problem": {"kind": "least-squares", "data": "synthetic", "samples": 64, "features": 32, "batch": 4},
        "seed": 1, "workers": {"count": 3}, "code": {"blocks": 4, "weight": 2},
        "memory": {"kind": "worker"}, "update": {"mode": "async"}, "optimizer": {"rate": 0.01},
        "stragglers": {"kind": "shifted-exponential", "shift_s": 0.0005, "mean_s": 0.0005},
        "stop": {"loss": 0.9},
    }  # fmt: skip
    pdcode.simulate(job, output=tmp_path / "t.h5", progress=False)
    assert not what_if.prediction(TraceReader(tmp_path / "t.h5")).descends
