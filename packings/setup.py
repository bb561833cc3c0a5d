"""The compiled kernel; everything else about the distribution is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

# The flags of pdcode's own kernels: the same bits on every processor. Their headers are used, too.
FLAGS = ["-std=c11", "-O3", "-fopenmp-simd", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
KERNEL = Extension(
    "pdcode_packings.kernel",
    ["pdcode_packings/kernel.pyx", "packing.c"],
    include_dirs=[".", "../csrc"],
    depends=["packing.h"],
    extra_compile_args=FLAGS,
)
DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True}

setup(
    ext_modules=cythonize([KERNEL], build_dir="build", compiler_directives=DIRECTIVES),
    options={"editable_wheel": {"mode": "compat"}},
)
