"""Messages about misspelt words name the word that was meant; of keys of other kinds they name these."""

import shlex

import pytest
from paths import JOBS

from pdcode.__main__ import main

DELAYS = "'shifted-exponential', 'pareto', 'bimodal', 'lognormal', 'markov', 'slow-set'"  # and plug-ins'
CASES = {
    "simulate JOB --set stragglers={kind='none',slow=[7]}": "stragglers.slow: kind 'none' has no such "
    f"key (value [7]); {DELAYS}",
    "simulate JOB --set stragglers={kind='none',slwo=[7]}": "; did you mean 'slow'?",
    "simulate JOB --set update={mode='all',count=2}": "mode 'all' has no such key (value 2); 'first' and "
    "'quorum' have it",
    "simulate JOB --set code={family='matched',options={}}": "family 'matched' has no such key (value {}); "
    "'energy' and 'net' have it",
    "simulate JOB --set scheme={name='lwpd',options={share=1}}": "scheme.options.share: scheme 'lwpd' has no "
    "such key (value 1); 'shadowheart', 'topk', 'randomk'",
    "simulate JOB --set optimizr.rate=1": "; did you mean 'optimizer'?",
    "simulate JOB --set stop.secnds=1": "; did you mean 'seconds'?",
    "simulate JOB --set trace.progresss=1": "; did you mean 'progress_s'?",
    "simulate JOB --set scheme={name='topk',options={shar=1}}": "; did you mean 'share'?",
    "simulate JOB --set scheme.name=lwdp": "; did you mean 'lwpd'?",
    "simulate JOB --set scheme.preset=defalt": "; did you mean 'default'?",
    "simulate JOB --set memory.kind=wroker": "; did you mean 'worker'?",
    "simulate JOB --set optimizer.kind=adma": "; did you mean 'adam'?",
    "simulate JOB --set update.mode=asnc": "; did you mean 'async'?",
    "simulate JOB --set stragglers.kind=paretto": "; did you mean 'pareto'?",
    "simulate JOB --set memory.kind=none --set decoder.kind=least-squares": "; did you mean 'least_squares'?",
    "simulate JOB --set wire.dtype=flaot16": "; did you mean 'float16'?",
    "simulate JOB --set downlink.kind=codeword": "; did you mean 'codewords'?",
    "simulate JOB --set code.family=nett": "; did you mean 'net'?",
    "simulate JOB --set problem.kind=sofmax": "; did you mean 'softmax'?",
    "simulate JOB --set problem.data=digts": "; did you mean 'digits'?",
    "simulate JOB --set faults.events=[{kind='kil'}]": "; did you mean 'kill'?",
    "compare JOB --target 1 --schemes uncodd": "; did you mean 'uncoded'?",
    "compare JOB --target 1 --schemes your": "; did you mean 'yours'?",
    "compare JOB --target 1 --schemes uncoded:al": "; did you mean 'all'?",
    "compare JOB --schemes all --clock virtul": "; did you mean 'virtual'?",
    "compare JOB --schemes all --figure x.pgn": "; did you mean '.png'?",
    "bench schemes --links 10G": "; did you mean '100G'?",
    "bench scale --link 10": "; did you mean '10M'?",
    "codes design nett -n 4 -k 4": "; did you mean 'net'?",
    "codes design net -n 4 -k 4 --option dihter=false": "; did you mean 'dither'?",
    "codes desing net": "; did you mean 'design'?",
    "simulat JOB": "; did you mean 'simulate'?",
    "bench clock": "; did you mean 'clocks'?",
    "plan JOB --canddates=3": "; did you mean '--candidates'?",
    "submit JOB --arry x.csv": "; did you mean '--array'?",
    "submit JOB --time=2:00": "; options for sbatch come after --, as in: pdcode submit job.toml -- --time",
}


@pytest.mark.parametrize("command", CASES)
def test_what_was_meant(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.replace("'", '"'), posix=False)
    try:
        code = main([str(JOBS / "digits.toml") if word == "JOB" else word for word in words])
    except SystemExit as stop:  # of argparse
        code = stop.code
    *_, line = capsys.readouterr().err.splitlines()
    assert code == 2
    assert CASES[command] in line


def test_a_word_that_is_like_none_has_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(JOBS / "digits.toml"), "--set", "optimizer.kind=rprop"]) == 2
    assert capsys.readouterr().err.endswith("(got 'rprop')\n")
