"""Messages about misspelt words name the word that was meant; of keys of other kinds they name these."""

import argparse
import shlex
from collections.abc import Iterator

import msgspec
import pytest
from commands import below
from paths import JOBS

from pdcode.__main__ import main, parser
from pdcode.config import BUNDLED, KINDS, Config, MemoryTable, kinds
from pdcode.config import load as configfile
from pdcode.session import setup
from pdcode.util.errors import InputError

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
    "codes design nett -n 4 -k 4": "; did you mean 'net'?",
    "codes design net -n 4 -k 4 --option dihter=false": "; did you mean 'dither'?",
    "codes desing net": "; did you mean 'design'?",
    "simulat JOB": "; did you mean 'simulate'?",
    "bench heldut": "; did you mean 'heldout'?",
    "plan JOB --canddates=3": "; did you mean '--candidates'?",
    "submit JOB --arry x.csv": "; did you mean '--array'?",
    "simulate JOB --scheme=lwpdd": "; keys of the configuration are set as in --set scheme.KEY=VALUE",
    "run JOB --seed 3": "; keys of the configuration are set as in --set seed=3",
    "plan JOB.tml": "digits.toml.tml: No such file or directory; did you mean 'digits.toml'?",
    "show JOB.tml": "digits.toml.tml: no such file; did you mean 'digits.toml'?",
    "submit JOB --time=2:00": "; options for sbatch come after --, as in: pdcode submit job.toml -- --time",
}


@pytest.mark.parametrize("command", CASES)
def test_what_was_meant(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.replace("'", '"'), posix=False)
    try:
        code = main([word.replace("JOB", str(JOBS / "digits.toml")) for word in words])
    except SystemExit as stop:  # of argparse
        code = stop.code
    *_, line = capsys.readouterr().err.splitlines()
    assert code == 2
    assert CASES[command] in line


SETTINGS = {
    "codes": "code.family={}",
    "families": "code.family={}",
    "decoders": "decoder.kind={}",
    "memories": "memory.kind={}",
    "problems": "problem.kind={}",
    "readers": "problem.data={}",
    "proximals": "optimizer.proximal={{kind='{}'}}",
    "optimizers": "optimizer.kind={}",
    "policies": "update.mode={}",
    "stragglers": "stragglers.kind={}",
    "faults": "faults.events=[{{kind='{}',worker=0,task=0}}]",
    "wires": "wire.dtype={}",
    "schemes": "scheme.name={}",
}
"""Group of kinds -> setting that names one."""


def misspelt_settings() -> Iterator[tuple[str, str]]:
    """Yield settings with a doubled last letter of each kind, preset and key, and the word that is meant.

    They are those of pdcode, not of plug-ins that other tests have loaded.
    """
    own = {
        group: [name for name, kind in kinds.KINDS[group].items() if isinstance(kind, str)]
        for group in SETTINGS
    }
    for group, names in own.items():
        for name in names if group != "readers" else BUNDLED:
            yield SETTINGS[group].format(name + name[-1]), name
    for scheme in own["schemes"]:
        for preset in kinds.find("schemes", scheme).presets:
            yield f"scheme={{name='{scheme}',preset='{preset}{preset[-1]}'}}", preset
    for table, base in KINDS.items():
        for name, kind in base.members():
            for key in () if not kind.__module__.startswith("pdcode.") else kind.__struct_fields__:
                if table != "decoder" or name == MemoryTable.of({}).decoder:  # others need another memory
                    yield f"{table}={{{base.__struct_config__.tag_field}='{name}',{key}{key[-1]}=1}}", key
    for table, value in msgspec.to_builtins(Config.of({})).items():
        yield f"{table}{table[-1]}.x=1", table
        for key in value if isinstance(value, dict) and table not in KINDS else ():
            yield f"{table}.{key}{key[-1]}=1", key


def test_every_kind_preset_and_key_is_suggested() -> None:
    asked = 0
    for setting, word in misspelt_settings():
        error = ""
        try:
            setup.prepare(configfile.resolve({}, ["stop.updates=1", setting.replace("'", '"')]))
        except InputError as caught:
            error = str(caught)
        assert error.endswith(f"; did you mean {word!r}?"), setting
        asked += 1
    assert asked > 500


def misspelt_commands() -> Iterator[tuple[list[str], str]]:
    """Yield arguments with a doubled last letter of each command, option and choice, and the word meant."""
    for command in below(parser()):
        words = command.prog.split()[1:]
        positional = [
            each
            for each in command._actions
            if not each.option_strings and each.nargs not in ("?", argparse.REMAINDER)
        ]
        given = [next(iter(each.choices or ["x"])) for each in positional]
        for place, action in enumerate(positional):
            for choice in action.choices or ():
                yield [*words, *given[:place], choice + choice[-1]], choice
        if not any(isinstance(each, argparse._SubParsersAction) for each in positional):
            for option in command._option_string_actions:
                if option.startswith("--"):
                    yield [*words, *given, option + option[-1]], option
            for action in command._actions:
                for choice in action.choices or () if action.option_strings else ():
                    yield [*words, *given, action.option_strings[-1], str(choice) + str(choice)[-1]], choice


def test_every_command_option_and_choice_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    asked = 0
    for words, word in misspelt_commands():
        with pytest.raises(SystemExit):
            parser(words[0]).parse_args(words)
        assert capsys.readouterr().err.endswith(f"; did you mean {word!r}?\n"), words
        asked += 1
    assert asked > 150


def test_a_word_that_is_like_none_has_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(JOBS / "digits.toml"), "--set", "optimizer.kind=rprop"]) == 2
    assert capsys.readouterr().err.endswith("(got 'rprop')\n")
