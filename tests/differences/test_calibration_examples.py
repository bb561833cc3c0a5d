"""The examples of simulations: an equation, an inverse problem, and a program in C, each by its job."""

import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

import pdcode


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an example's folder."""
    return Path(shutil.copytree(ROOT / "examples" / request.param, tmp_path / request.param))


def fit(folder: Path, over_mpi: bool = False):
    start = pdcode.run if over_mpi else pdcode.simulate
    return start(str(folder / "job.toml"), workers=3, output=folder / "a.h5", progress=False).fit()


def within(fit, truth, errors: float = 3.5) -> None:
    """Assert that a fit is at the truth, in its standard errors."""
    assert (np.abs(fit.x - truth) < errors * fit.deviations).all(), (fit.x, fit.deviations)


@pytest.mark.parametrize("example", ["ode"], indirect=True)
def test_an_epidemic(example: Path) -> None:
    module, found = runpy.run_path(str(example / "epidemic.py")), fit(example)
    within(found, module["TRUTH"])
    assert found.names == module["NAMES"]
    assert 0.6 < found.variance < 1.6  # of counts
    assert (found.deviations / found.x < 0.5).all()


@pytest.mark.parametrize("example", ["pde"], indirect=True)
def test_the_conductivity_of_a_plate(example: Path) -> None:
    module, found = runpy.run_path(str(example / "conductivity.py")), fit(example)
    within(found, module["truth"]())
    assert (len(found.residuals), len(found.priors)) == (40, 16)
    assert found.deviations.max() > 3 * found.deviations.min()  # corners are known by the prior alone


@pytest.mark.parametrize("example", ["program"], indirect=True)
def test_a_pendulum_in_c_over_mpi(example: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    subprocess.run([compiler, "-O2", "pendulum.c", "-o", "pendulum", "-lm"], cwd=example, check=True)
    found = fit(example, over_mpi=True)
    within(found, [1.3, 0.2, 0.8])
    assert found.variance**0.5 == pytest.approx(0.01, rel=0.5)
