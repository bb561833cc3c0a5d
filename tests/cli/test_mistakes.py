"""Mistakes of users: each is told in one line that names file, key and value, and the cure."""

import shlex
from pathlib import Path

import pytest

from pdcode.__main__ import main

JOB = """problem = { kind = "softmax", data = "digits", batch = 32 }
workers = { count = 2 }
stop = { updates = 3 }
"""
CSV = "a,b,y\n1,2,0\n3,4,1\n"
FILES = {
    "job.toml": JOB,
    "utf16.toml": JOB.encode("utf-16"),
    "latin.toml": "# Größe\n".encode("latin-1"),
    "zip.toml": b"PK\x03\x04\0",
    "h5.toml": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "job.yaml": "problem: {kind: softmax}\n",
    "job.json": '{"problem": {"kind": "softmax"}}\n',
    "open.toml": "workers = { count = 2 \n",
    "twice.toml": "seed = 1\nseed = 2\n",
    "yes.toml": "problem = { standardise = yes }\n",
    "True.toml": "problem = { standardise = True }\r\n",
    "comma.toml": "optimizer = { rate = 0,1 }\n",
    "curly.toml": "problem = { kind = “softmax” }\n",
    "colon.toml": "problem = { batch: 32 }\n",
    "plain.toml": "problem = { kind = softmax }\n",
    "under.toml": '[problem]\nkind = "softmax"\nstop = { updates = 3 }\n',
    "endless.toml": 'problem = { kind = "softmax" }\n',
    "data.csv": CSV,
    "ragged.csv": f"{CSV}1,3\n",
    "noy.csv": CSV.replace("y", "c"),
    "bad.npz": b"PK\x03\x04 not a zip",
    "mine.py": "def f(:\n",
    "settings.csv": "seed,seed\n1,2\n",
}
S = "simulate job.toml --set "
CURES = {
    # files and folders
    "simulate jbo.toml": "jbo.toml: No such file or directory; did you mean 'job.toml'?",
    "simulate .": ".: Is a directory",
    "simulate utf16.toml": "utf16.toml: UTF-16; save it as UTF-8",
    "simulate latin.toml": "latin.toml: not UTF-8 text, from byte 4; save it as UTF-8",
    "simulate zip.toml": "zip.toml: not a text file, so not a configuration",
    "run h5.toml": "h5.toml: an HDF5 file, such as a trace, not a configuration; `pdcode show`",
    "simulate job.yaml": "job.yaml: not TOML: ... ; a configuration is TOML, such as jobs/digits.toml",
    "simulate job.json": "job.json: not TOML: ... ; a configuration is TOML, such as jobs/digits.toml",
    "simulate data.csv": "data.csv: not TOML: ... ; a configuration is TOML, such as jobs/digits.toml",
    "show job.toml": "job.toml: a configuration, not a trace; `pdcode run`",
    "show data.csv": "data.csv: not a pdcode trace, or not readable",
    "show nothere.h5": "nothere.h5: no such file",
    "replay .": ".: a directory, not a file",
    "predict job.toml data.csv": "job.toml: a configuration, not a trace",
    "report job.toml": "job.toml: a configuration, not a trace",
    "export job.toml -o x.csv": "job.toml: a configuration, not a trace",
    "import csv nothere.csv -o i.h5": "nothere.csv: no such file",
    "import csv data.csv -o i.h5": "data.csv: no column worker; it needs worker, step, work_s",
    "submit job.toml --array settings.csv": "settings.csv: line 1: 'seed': expected keys, each once",
    "simulate job.toml --cost data.csv": "data.csv: not TOML",
    "simulate job.toml --stragglers nothere.h5": "stragglers.path: ... nothere.h5: no such file",
    "simulate job.toml -o o.csv": "trace.path: 'o.csv': a trace is HDF5: expected a name that ends in .h5",
    "simulate job.toml -o .": "trace.path: '.' is not the name of a file",
    "simulate job.toml -o /proc/x/o.h5": "trace.path: cannot write '/proc/x/o.h5': No such file",
    "compare job.toml --schemes topk --target 1 --figure f.doc": "--figure f.doc: ... ends in .png",
    # TOML
    "simulate open.toml": "open.toml: not TOML: Unclosed inline table (at line 1",
    "simulate twice.toml": "twice.toml: not TOML: Cannot overwrite a value (at line 2",
    "simulate yes.toml": "yes.toml: ... (at line 1, column 27): 'yes }'; TOML has true and false",
    "simulate True.toml": "True.toml: ... 'True }'; TOML has true and false",
    "simulate comma.toml": "comma.toml: ... line 1 ... ; numbers have a point, not a comma",
    "simulate curly.toml": "curly.toml: ... (at line 1, column 20): '“softmax” }'; use ASCII quotes",
    "simulate colon.toml": "colon.toml: not TOML ... ; between key and value is =",
    "simulate plain.toml": "plain.toml: ... (at line 1, column 20): 'softmax }'; text is quoted",
    "simulate under.toml": "problem.stop: ... ; stop is no key of [problem]: it stands above",
    "simulate endless.toml": "stop: nothing ends the run; give updates, seconds, loss or accuracy",
    # the command line
    "": "COMMAND is missing; as in: pdcode run jobs/digits.toml",
    "train job.toml": "(got 'train'); did you mean 'run'?",
    "job.toml": "(got 'job.toml'); did you mean 'pdcode run job.toml'?",
    "run": "CONFIG is missing; as in: pdcode run jobs/digits.toml",
    "simulate --set stop.updates=3": "CONFIG is missing",
    "simulate job.toml job.toml": "unrecognized arguments: job.toml",
    "simulate job.toml --bandwidth 3": "--bandwidth 3; keys ... are set as in --set link.bandwidth=3",
    "simulate job.toml --seed 3": "--seed 3; keys of the configuration are set as in --set seed=3",
    "simulate job.toml --lr=3": "--lr=3; keys of the configuration are set as in --set optimizer.rate=3",
    "simulate job.toml --seconds 3": "--seconds 3; keys ... are set as in --set stop.seconds=3",
    "simulate job.toml --trace": "--trace; keys of the configuration are set as in --set trace.KEY=VALUE",
    "simulate job.toml --wrokers 3": "--wrokers 3; did you mean '--workers'?",
    "simulate job.toml --sgd": "--sgd; as in: pdcode simulate",
    "simulate job.toml -n two": "-n/--workers: expected an integer (got 'two')",
    "simulate job.toml -n 0": "workers.count: expected integer >= 1 (got 0)",
    "simulate job.toml -n": "-n/--workers: expected one argument",
    f"{S}workers.count": "--set workers.count: expected KEY=VALUE",
    f"{S}workers.count:3": "--set workers.count:3: expected KEY=VALUE",
    f"{S}=3": "--set =3: expected KEY=VALUE",
    f"{S}stragglers={{kind=pareto,shape=2}}": "--set stragglers: '{kind=pareto,shape=2}': ... text is quoted",
    "compare job.toml": "--schemes is missing; as in: pdcode compare",
    "compare job.toml --schemes topk,,frc --target 1": "--schemes topk,,frc: expected names of schemes",
    "compare job.toml --schemes topkk --target 1": "--schemes topkk: scheme.name ... ; did you mean 'topk'?",
    "compare job.toml --schemes topk,topk --target 1": "--schemes: 'topk' is there twice",
    "compare job.toml --schemes topk/share=2 --target 1": "share: ... did you mean 'code.share'?",
    "compare job.toml --schemes topk --target x": "--target: expected a number (got 'x')",
    "compare job.toml --schemes topk --target=-1": "--target -1: expected a number above 0, as losses of",
    f"{S}stop.loss=-1.0": "stop.loss: -1: expected a number above 0, as losses of 'softmax' are",
    "compare job.toml --schemes topk --seeds 0": "--seeds 0: expected 1 to 1000",
    "compare job.toml --schemes topk --seconds 10m": "--seconds: expected a time such as ... (got '10m')",
    "compare job.toml --schemes topk --link fast": "--link: expected a rate such as 1.25e8 ... (got 'fast')",
    "plan job.toml --deadline soon": "--deadline: expected a time such as ... (got 'soon')",
    "chaos job.toml --kill 9": "--kill 9: one of the 2 workers must be left",
    "bench machines": "(got 'machines'); did you mean 'machine'?",
    "import nsys data.csv -o i.h5": "FORMAT: expected one of kineto, ... (got 'nsys')",
    "watch job.toml --every 0": "--every 0: expected 0.1 to 3600",
    "doctor extra": "unrecognized arguments: extra",
    # words of other programs, and misspelt ones
    f"{S}workers.cuont=3": "workers.cuont: unknown key ... ; did you mean 'count'?",
    f"{S}worker.count=3": "worker: unknown key ... ; did you mean 'workers'?",
    f"{S}count=3": "count: unknown key ... ; did you mean 'workers.count'?",
    f"{S}lr=0.1": "lr: unknown key ... ; did you mean 'optimizer.rate'?",
    f"{S}optimizer.learning_rate=1": "optimizer.learning_rate ... ; did you mean 'rate'?",
    f"{S}problem.lr=1": "problem.lr: unknown key ... ; did you mean 'optimizer.rate'?",
    f"{S}optimizer.batch=3": "optimizer.batch: unknown key ... ; did you mean 'problem.batch'?",
    f"{S}problem.batch_size=3": "problem.batch_size: unknown key ... ; did you mean 'batch'?",
    f"{S}stop.iterations=3": "stop.iterations: unknown key ... ; did you mean 'updates'?",
    f"{S}stop.time=3": "stop.time: unknown key ... ; did you mean 'seconds'?",
    f"{S}memory.size=3": "memory.size: unknown key (value 3); known: kind (worker), lookahead, keep",
    f"{S}shuffle.coded=3": "shuffle.coded: unknown key (value 3); known: kind (none), every, cache",
    f"{S}link.speed=1e9": "link.speed: unknown key ... ; did you mean 'bandwidth'?",
    f"{S}link.latency=1ms": "link.latency: unknown key ... ; did you mean 'latency_s'?",
    f"{S}scheme.share=0.1": "scheme.share: unknown key ... ; did you mean 'code.share'?",
    f"{S}device=cuda": "stop, trace; there is no such key, as ranks compute on CPUs",
    f"{S}machine.gpus=2": "coordinators; there is no such key, as ranks compute on CPUs",
    f"{S}threads=2": "stop, trace; OMP_NUM_THREADS has the number of a rank's threads",
    f"{S}scheme.preset=fast": "scheme.preset: ... no preset 'fast'; known: ... shards, auto\n",
    f"{S}optimizer.kind=sdg": "optimizer.kind ... ; did you mean 'sgd'?",
    f"{S}problem.kind=cnn": "problem.kind ... (got 'cnn'); did you mean 'torch'?",
    f"{S}problem.kind=regression": "problem.kind ... ; did you mean 'least-squares'?",
    f"{S}problem.dtype=double": "problem.dtype ... ; did you mean 'float64'?",
    f"{S}optimizer.kind=Adam": "optimizer.kind ... ; did you mean 'adam'?",
    f"{S}update.mode=sync": "update.mode ... (got 'sync'); did you mean 'all'?",
    f"{S}reduce.kind=ring": "reduce.kind ... (got 'ring'); did you mean 'allreduce'?",
    f"{S}scheme.name=ddp": "scheme.name ... (got 'ddp'); did you mean 'allreduce'?",
    f"{S}wire.dtype=fp16": "wire.dtype ... (got 'fp16'); did you mean 'float16'?",
    f"{S}stragglers.kind=exponential": "stragglers.kind ... ; did you mean 'shifted-exponential'?",
    f"{S}problem.data=mnist": "problem.data: no such file ... ; did you mean 'mnist5k'?",
    f"{S}problem.data=iris": "nor a bundled data set (digits, ... ); others are files, such as npz or csv",
    f"{S}problem.data=cifar10": "problem.data: no such file ... ; others are files, such as npz or csv",
    # types
    f"{S}workers=3": "workers: expected table (got 3); its keys are set as in workers.count=…",
    f"{S}trace=out.h5 -o o.h5": "--set trace: expected table (got 'out.h5'); ... as in trace.path=…",
    f"{S}problem=softmax": "problem: expected table, such as {kind = …} (got 'softmax')",
    f"{S}scheme=topk": "scheme: expected table (got 'topk'); its keys are set as in scheme.name=…",
    f"{S}stop.updates=1e3": "stop.updates: expected integer (got 1000.0); write 1000",
    f"{S}workers.count=2.5": "workers.count: expected integer (got 2.5)",
    f"{S}problem.standardise=yes": "expected one of true, false, guarded, white, auto (got 'yes')",
    f"{S}stragglers={{kind='slow-set',shift_s=1.0,slow=1}}": "stragglers.slow: expected list ... ; write [1]",
    f"{S}plugins=mine.py": "plugins: expected list (got 'mine.py'); write [\"mine.py\"]",
    f"{S}optimizer.rate=big": "optimizer.rate: expected one of any number, auto (got 'big')",
    f"{S}seed=one": "seed: expected integer (got 'one')",
    f"{S}faults.events=kill": "faults.events: expected list (got 'kill')",
    # units and ranges
    f"{S}stop.accuracy=97": "stop.accuracy: expected number <= 1.0 (got 97); 97 % is 0.97",
    f"{S}stop.accuracy=97%": "stop.accuracy: expected number (got '97%'); 97 % is 0.97",
    f"{S}stop.accuracy=0": "stop.accuracy: 0: expected a number above 0, as any model reaches it",
    f"{S}problem.test_fraction=20": "problem.test_fraction: expected number < 1.0 ... ; 20 % is 0.2",
    f"{S}link.bandwidth=1gb/s": "link.bandwidth: expected a rate ... or '1 Gbit/s' (got '1gb/s')",
    f"{S}link.bandwidth=0": "link.bandwidth: expected a rate >= 1 bytes/s (got 0)",
    f"{S}link.latency_s=-1": "link.latency_s: expected a time >= 0 s (got -1)",
    f"{S}stop.seconds=10m": "stop.seconds: expected a time such as 0.01 (seconds) or '10 ms' (got '10m')",
    f"{S}stop.updates=0": "stop.updates: expected integer >= 1 (got 0)",
    f"{S}optimizer.rate=nan": "optimizer.rate: expected number > 0.0 (got nan)",
    f"{S}optimizer.momentum=1": "optimizer.momentum: expected number < 1.0 (got 1)",
    f"{S}update={{mode='first',count=9}}": "update.count: 9 is more than the 2 workers",
    f"{S}scheme={{name='frc'}} -n 5": "scheme.options.stragglers: 1: ... ; workers.count = 4 or 6 are",
    f"{S}stragglers={{kind='slow-set',shift_s=1.0,slow=[5]}}": "stragglers.slow: worker 5 does not exist",
    f"{S}stragglers.kind=shifted-exponential": "stragglers.mean_s: must be given, as a time such as",
    f"{S}faults.events=[{{kind='kill'}}]": "faults.events: kind 'kill': worker: must be given",
    # keys that contradict others
    f"{S}problem.hidden=[64]": "problem.hidden: [64] has no effect with problem.kind 'softmax'; ... 'mlp'",
    f"{S}problem.features=5": "problem.features: 5 has no effect ... ; it needs 'synthetic'",
    f"{S}problem.kind=logistic": "problem.kind: 'logistic' needs two classes ... ; take 'softmax'",
    f"{S}problem.kind=weighted-softmax": "problem.kind: ... one column ... without weights take 'softmax'",
    f"{S}problem.kind=torch": "problem.module: must be given with problem.kind 'torch'",
    f"{S}optimizer={{kind='adam',momentum=0.9}}": "optimizer.momentum: kind 'adam' ... ; 'sgd'",
    f"{S}update={{mode='all',count=2}}": "update.count: mode 'all' ... ; 'first' and 'quorum'",
    f"{S}reduce.kind=allreduce": "update.mode: 'async' ... ; it needs 'all' or 'first'",
    f"{S}reduce.bits=8 --set memory.kind=none": "memory.kind: 'none' ... reduce.bits 8 ... needs 'worker'",
    f"{S}scheme={{name='topk',preset='auto'}}": "scheme.preset: ... no preset 'auto'; known: whitened",
    # data
    f"{S}problem.data=diabetes": "problem.targets: ... 214 distinct real numbers in 442 rows ... take kind",
    f"{S}problem.data=ragged.csv": "problem.data: ... ragged.csv', line 4: expected 3 columns, got 2",
    f"{S}problem.data=noy.csv": "problem.targets: no 'y' in ... noy.csv', which holds a, b, c",
    f"{S}problem.data=bad.npz": "problem.data: ... bad.npz' is not an npz file",
    f"{S}problem.data=job.toml": "problem.data: ... job.toml' does not end in a known format: .csv",
    f"{S}plugins=['mine.py']": "plugins: ... mine.py, line 1: SyntaxError",
}
"""Command -> what its line says: pieces of it, in this order."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mistakes")
    for name, content in FILES.items():
        (made / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return made


@pytest.mark.parametrize("command", CURES)
def test_a_mistake_is_told_in_one_line_with_its_cure(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    try:
        code = main(shlex.split(command.replace("'", '"'), posix=False))
    except SystemExit as stop:  # of argparse
        code = stop.code  # type: ignore[assignment]
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("pdcode")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    place = 0
    for words in CURES[command].split(" ... "):
        assert words in error[place:], error
        place = error.index(words, place) + len(words)


def test_the_list_is_long() -> None:
    assert len(CURES) > 100
