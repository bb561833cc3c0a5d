"""The compiled kernels; everything else about the package is in pyproject.toml."""

import os
from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command import build_ext

KERNELS = tuple(sorted(path[len("pdcode/kernels/") : -len(".pyx")] for path in glob("pdcode/kernels/*.pyx")))
# No fused multiply-add: every rank then computes the same bits, whatever its processor. No errno and no
# floating-point traps: they would keep loops from being vectorised, and change no value.
FLAGS = ["-std=c11", "-O3", "-fopenmp-simd", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
UNCHECKED = ("boundscheck", "wraparound", "initializedcheck")  # shapes are checked by hand, once a call
DIRECTIVES = {"language_level": 3, "cdivision": True, **dict.fromkeys(UNCHECKED, False)}

# C files that a kernel needs beside its own, if it has one: an extension module exports no C functions.
OTHERS = {"intake": [f"csrc/{name}.c" for name in ("decode", "finite", "fold", "quantise")]}

extensions = [
    Extension(
        f"pdcode.kernels.{name}",
        [f"pdcode/kernels/{name}.pyx", *glob(f"csrc/{name}.c"), *OTHERS.get(name, ())],
        include_dirs=["csrc", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        depends=sorted(glob("csrc/*.h") + glob("pdcode/kernels/*.pxd")),
        extra_compile_args=FLAGS,
    )
    for name in KERNELS
]


class Build(build_ext.build_ext):
    """Command that compiles the kernels; Cython runs only here, not for an sdist or metadata."""

    def build_extensions(self) -> None:
        made = cythonize(self.extensions, build_dir="build/cython", compiler_directives=DIRECTIVES)
        sources = {extension.name: extension.sources for extension in made}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
        super().build_extensions()


setup(
    ext_modules=extensions,
    cmdclass={"build_ext": Build},
    # An editable install puts this folder on sys.path. A finder behind it would come too late where the
    # current folder holds a clone of this repository, as Python takes that for a namespace package.
    options={"build_ext": {"parallel": os.cpu_count()}, "editable_wheel": {"mode": "compat"}},
)
