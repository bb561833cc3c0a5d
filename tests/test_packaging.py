"""An sdist, and a wheel built from it outside the tree, install and import in a clean virtual environment."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from paths import ROOT

KERNELS = sorted(path.stem for path in (ROOT / "pdcode" / "kernels").glob("*.pyx"))
COMPILED = "fold"  # its module and its C file are compiled anew
BUILT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "__pycache__", "results")

pytestmark = pytest.mark.timeout(240)  # where Cython's C is not there, it makes and compiles all kernels anew


def run(*words: str | Path, cwd: Path, **extra: str) -> str:
    """Run a command far from the tree and return what it prints."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | extra
    done = subprocess.run(
        words, cwd=cwd, env=environ, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy without what earlier builds have left: what a fresh clone would give."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "tree", ignore=BUILT)
    build = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    run(sys.executable, "-c", build, cwd=folder / "tree")
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Built from the sdist alone, except for what Cython and the compiler make of the same sources here.

    One kernel is compiled anew: the others would take half a minute, and differ in their sources alone, which
    the sdist holds (see below).
    """
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    folder, compiler = sdist.parent / "wheel", sdist.parent / "cc"
    run(sys.executable, "-m", "tarfile", "-e", str(sdist), cwd=sdist.parent)
    source = sdist.parent / sdist.name.removesuffix(".tar.gz")
    if (ROOT / "build").exists():
        stale = shutil.ignore_patterns("lib.*", "bdist.*", f"{COMPILED}.o")
        shutil.copytree(ROOT / "build", source / "build", ignore=stale)
    compiler.write_text(f'#!/bin/sh\nexec {os.environ.get("CC", "cc")} "$@" -O0 -g0\n')  # a fifth of the time
    compiler.chmod(0o755)
    words = (*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    run(*words, cwd=sdist.parent, CC=str(compiler))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scripts of an environment that holds the wheel, and sees this one's packages except an editable pdcode.

    A path in a .pth file is searched for packages, but .pth files there, such as that of an editable install,
    are not read.
    """
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    scripts = folder / "venv" / "bin"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(scripts / "python", "-c", query, cwd=folder).strip())
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(paths)))
    pip = (
        sys.executable, "-m", "pip", "--python", scripts / "python", "--quiet", "--disable-pip-version-check",
    )  # fmt: skip
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return scripts


def test_sdist_holds_the_sources_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for pattern in (
        "csrc/**/*", "pdcode/**/*", "jobs/*", "docs/**/*.md", "docs/figures/*", "examples/**/*",
        "experiments/*", "benchmarks/*", "tests/**/*.py",
    ):  # fmt: skip
        tree = sdist.parent / "tree"
        wanted = {str(path.relative_to(tree)) for path in tree.glob(pattern) if path.is_file()}
        assert wanted
        assert wanted <= names
    assert {"LICENSE", "README.md", "Makefile", "pyproject.toml", "setup.py"} <= names
    generated = {f"pdcode/kernels/{name}.c" for name in KERNELS}
    assert not [name for name in names if name in generated or name.endswith((".so", ".pyc", ".h5"))]


def test_wheel_holds_what_runs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    modules = {
        str(path.relative_to(ROOT)) for kind in ("*.py", "*.html") for path in (ROOT / "pdcode").rglob(kind)
    }
    assert modules <= set(names)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert {f"pdcode/kernels/{name}{suffix}" for name in KERNELS} <= set(names)
    jobs = {path.name for path in (ROOT / "jobs").iterdir()}  # for `pdcode submit`
    assert jobs == {Path(name).name for name in names if "/share/pdcode/jobs/" in name}
    assert not [name for name in names if name.endswith((".c", ".h", ".pyx"))]
    assert all(name.startswith(("pdcode/", "pdcode-")) for name in names)


def test_wheel_imports_in_a_clean_environment(clean: Path, tmp_path: Path) -> None:
    kernels = ", ".join(f"pdcode.kernels.{name}" for name in KERNELS)
    program = f"import pdcode, {kernels}; print(pdcode.__file__)"
    where = Path(run(clean / "python", "-c", program, cwd=tmp_path).strip())
    assert where.is_relative_to(clean.parent)


def test_command_runs_in_a_clean_environment(clean: Path, tmp_path: Path) -> None:
    assert "bench" in run(clean / "pdcode", "--help", cwd=tmp_path)
    assert run(clean / "pdcode", "--version", cwd=tmp_path).startswith("pdcode ")
    (tmp_path / "job.toml").touch()
    submitted = run(clean / "pdcode", "submit", "job.toml", "--dry-run", cwd=tmp_path)
    assert Path(submitted.split()[-4]).is_relative_to(clean.parent)
    assert Path(submitted.split()[-4]).exists()


def test_importing_starts_no_mpi(clean: Path, tmp_path: Path) -> None:
    program = "import sys, pdcode, pdcode.__main__; print('mpi4py.MPI' in sys.modules)"
    assert run(clean / "python", "-c", program, cwd=tmp_path).strip() == "False"
