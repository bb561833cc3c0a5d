"""The compiled kernels; everything else about the package is in pyproject.toml."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from itertools import count
from multiprocessing import connection, get_context
from pathlib import Path
from runpy import run_path
from threading import Lock

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command import build_ext
from setuptools.modified import newer_group

# No fused multiply-add: every rank then computes the same bits, whatever its processor. No errno and no
# floating-point traps: they would keep loops from being vectorised, and change no value.
FLAGS = ["-std=c11", "-fopenmp-simd", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-g0", "-fvisibility=hidden"]
UNCHECKED = ("boundscheck", "wraparound", "initializedcheck")  # shapes are checked by hand, once a call
DIRECTIVES = {"language_level": 3, "cdivision": True, **dict.fromkeys(UNCHECKED, False)}
SHARED = "pdcode/kernels/_cyutility"  # generated: what each module would else have its own copy of

KERNELS = [path.removesuffix(".pyx") for path in sorted(glob("pdcode/kernels/*.pyx"))]
MODULES = {path: Extension(path.replace("/", "."), [f"build/cython/{path}.pyx"]) for path in KERNELS}
MODULES[SHARED] = Extension(SHARED.replace("/", "."), [f"build/cython/{SHARED}.c"])
# No modules of Python, but named like some: libraries that are preloaded into programs.
PRELOADED = {path: Extension(f"pdcode.launch.{Path(path).stem}", []) for path in glob("csrc/launch/*.c")}


class Build(build_ext.build_ext):
    """Command that compiles csrc and the kernels; Cython runs only here, not for an sdist or metadata.

    Objects stay in build/, in an editable install too, and every file is compiled only if something that it
    includes is newer. `build_ext` alone would compile all files of a module, one after the other.
    """

    def build_extensions(self) -> None:
        threads = len(os.sched_getaffinity(0))
        self.build_temp = f"build/temp.{self.plat_name}-{sys.implementation.cache_tag}"
        expand, rows = (run_path(f"csrc/{name}.py")["expand"] for name in ("wrappers", "rows"))
        for path in KERNELS:
            source, target = Path(f"{path}.pyx"), Path(f"build/cython/{path}.pyx")
            expanded = expand(rows(source.read_text("utf-8")), f"{source.stem}.h")
            if not target.exists() or target.read_text("utf-8") != expanded:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(expanded, "utf-8")
        translate(threads)
        sources = [*sorted(glob("csrc/*.c")), *PRELOADED, *(f"build/cython/{path}.c" for path in MODULES)]
        self.outdated, self.numbers, self.one = list(filter(self.is_outdated, sources)), count(1), Lock()
        with ThreadPoolExecutor(threads) as pool:
            kernels = list(pool.map(self.compile, sorted(glob("csrc/*.c"))))
            library = self.compiler.library_filename("pdcode", output_dir=self.build_temp)
            if newer_group(kernels, library, "newer"):
                Path(library).unlink(missing_ok=True)
                self.compiler.create_static_lib(kernels, "pdcode", self.build_temp)
            modules = pool.map(self.compile, [f"build/cython/{path}.c" for path in MODULES])
            for extension, module in zip(MODULES.values(), modules, strict=True):
                extension.sources = []
                extension.extra_objects = extension.depends = [module, library]
            for path, extension in PRELOADED.items():
                extension.extra_objects = extension.depends = [self.compile(path)]
            list(pool.map(self.build_extension, [*MODULES.values(), *PRELOADED.values()]))
        if self.outdated and sys.stdout.isatty():
            print()

    def object_of(self, source: str) -> str:
        """Return the path of a C file's object."""
        (compiled,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        return compiled

    def is_outdated(self, source: str) -> bool:
        """Return whether a C file's object is older than it, or than what it includes."""
        rule = Path(self.object_of(source) + ".d")  # for make: "object: source header …"
        needed = rule.read_text().replace("\\\n", " ").split()[1:] if rule.exists() else [source]
        return newer_group(["setup.py", *needed], self.object_of(source), "newer")

    def compile(self, source: str) -> str:
        """Compile a C file if that is needed; return its object."""
        compiled = self.object_of(source)
        if source in self.outdated:
            with self.one:  # thread after thread: neither lines nor their order mix
                show(f"compiling {next(self.numbers)} of {len(self.outdated)} files: {Path(source).name}")
            rule = f"{compiled}.d"
            flags = [*FLAGS, "-O3" if source.startswith("csrc/") else "-O2", "-MMD", "-MF", rule]
            macros = [("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")]
            headers = [*self.include_dirs, "csrc", numpy.get_include()]
            self.compiler.compile([source], self.build_temp, macros, headers, extra_postargs=flags)
        return compiled


def translate(most: int) -> None:
    """Translate the modules to C where that is needed, in this many processes at once."""
    options = {"compiler_directives": DIRECTIVES, "shared_utility_qualified_name": SHARED.replace("/", ".")}
    todo, running = list(MODULES), {}
    for number in range(1, len(MODULES) + 1):
        while todo and len(running) < most:
            path = todo.pop(0)
            before = written(path)
            # Not by a pool, which would look functions up in a module; build front ends import none.
            process = get_context("fork").Process(
                target=cythonize, args=([MODULES[path]],), kwargs=options | {"quiet": True}
            )
            process.start()
            running[process.sentinel] = process, path, before
        process, path, before = running.pop(connection.wait(running)[0])
        process.join()
        if process.exitcode:
            sys.exit(f"pdcode: {path}.pyx cannot be translated")
        if written(path) != before:
            show(f"translated {number} of {len(MODULES)} modules to C")


def written(path: str) -> int:
    """Return when a module was translated, or 0."""
    target = Path(f"build/cython/{path}.c")
    return target.stat().st_mtime_ns if target.exists() else 0


def show(text: str) -> None:
    """Print a line, on a terminal in place of the one before."""
    start, end = ("\r\x1b[K", "") if sys.stdout.isatty() else ("", "\n")
    print(f"{start}pdcode: {text}", end=end, flush=True)


setup(
    ext_modules=[*MODULES.values(), *PRELOADED.values()],
    cmdclass={"build_ext": Build},
    # An editable install puts this folder on sys.path. A finder behind it would come too late where the
    # current folder holds a clone of this repository, as Python takes that for a namespace package.
    options={"editable_wheel": {"mode": "compat"}},
)
