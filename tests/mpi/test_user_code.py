"""An error of a user's code on a rank: one line with rank, file and line."""

from pathlib import Path

from midrun import FILE
from outcomes import refused

import pdcode


def test_a_worker_whose_function_ends_the_program_ends_the_job_as_bad_input(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE.format(fails="sys.exit(0)"), encoding="utf-8")
    names = {key: f"{tmp_path}/mine.py:{key}" for key in ("function", "data")}
    problem = {"kind": "function", "start": f"{tmp_path}/mine.py:START", **names}
    line = f"failed: SystemExit: it ends the program, with exit code 0, in {tmp_path}/mine.py, line 18"
    with refused(line, start="rank "):
        pdcode.run(
            {"problem": problem, "stop": {"updates": 100_000}},
            workers=1, output=tmp_path / "a.h5", progress=False,
        )  # fmt: skip
