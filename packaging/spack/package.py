# Not built by anybody yet: see ../README.md.

from spack.package import *


class PyPdcode(PythonPackage):
    """Distributed gradient descent in which the partial derivatives themselves are coded."""

    license("MIT")

    version("main")  # not published yet: `spack develop --path` says where the source is

    depends_on("c", type="build")
    depends_on("python@3.11:", type=("build", "run"))

    depends_on("py-setuptools@77.0.3:", type="build")
    depends_on("py-cython@3.1:", type="build")

    depends_on("py-numpy@2.0:", type=("build", "run"))
    depends_on("py-mpi4py@4.1:", type=("build", "run"))
    depends_on("py-h5py@3.11:", type=("build", "run"))
    depends_on("py-msgspec@0.19:", type=("build", "run"))
    depends_on("py-matplotlib@3.9:", type=("build", "run"))
    depends_on("py-rich@13.7:", type=("build", "run"))
    depends_on("py-scipy@1.13:", type=("build", "run"))
    depends_on("py-scikit-learn@1.6:", type=("build", "run"))
    depends_on("py-threadpoolctl@3.1:", type=("build", "run"))
    depends_on("py-bokeh@3.9:", type=("build", "run"))
    depends_on("py-jinja2@3.1:", type=("build", "run"))
    depends_on("py-shtab@1.7:", type=("build", "run"))
