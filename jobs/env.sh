# Site settings, sourced by the batch scripts of this folder: change them here to suit your cluster.
# $root is the folder of the repository.

# Modules of the site: a Python that has mpi4py for the site's own MPI, say. With what `make` installs, none is needed.
# module load python openmpi

# The Python environment: the one that `make` sets up, or another that has pdcode. Its mpirun, if it has one, comes first too.
PDCODE_VENV=${PDCODE_VENV:-$root/.venv}
[ ! -x "$PDCODE_VENV/bin/python" ] || export PATH="$PDCODE_VENV/bin:$PATH"

# The launcher inside a SLURM job: srun where this SLURM speaks PMIx, otherwise mpirun. Outside SLURM pdcode starts mpirun itself.
if [ -z "${PDCODE_LAUNCHER:-}" ]; then
    # No pipe: with pipefail it fails where grep has found the word before srun has written all.
    if grep -qw pmix <<<"$(srun --mpi=list 2>&1)"; then PDCODE_LAUNCHER=srun; else PDCODE_LAUNCHER=mpirun; fi
fi

# More ranks than cores on this node: ranks that wait give their core away, and mpirun does not tie them to cores.
ranks=${SLURM_TASKS_PER_NODE:-1} # such as 9 or 5(x2),4
if [ "${ranks%%[!0-9]*}" -gt "$(env -u OMP_NUM_THREADS nproc)" ]; then
    export OMPI_MCA_mpi_yield_when_idle=true
    export PRTE_MCA_hwloc_default_binding_policy=none OMPI_MCA_hwloc_base_binding_policy=none # Open MPI 5, 4
fi

# Open MPI's mpirun refuses root; on test machines and in containers there is often no one else.
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# One BLAS thread a rank: the ranks are the parallelism.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
