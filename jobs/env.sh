# shellcheck shell=bash
# Site settings, and what the batch scripts of this folder share. They source it: change the first part to suit your cluster.

# Modules of the site: a Python that has mpi4py for the site's own MPI, say. With what `make` installs, none is needed.
# module load python openmpi

# The Python environment: the one that `make` sets up, or another that has pdcode. Its mpirun, if it has one, comes first too.
root=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
PDCODE_VENV=${PDCODE_VENV:-$root/.venv}
[ ! -x "$PDCODE_VENV/bin/python" ] || export PATH="$PDCODE_VENV/bin:$PATH"

# The launcher inside a SLURM job: srun where this SLURM speaks PMIx, otherwise mpirun. Outside SLURM it is mpirun.
if [ -z "${PDCODE_LAUNCHER:-}" ]; then
    # No pipe: with pipefail it fails where grep has found the word before srun has written all.
    if grep -qw pmix <<<"$(srun --mpi=list 2>&1)"; then PDCODE_LAUNCHER=srun; else PDCODE_LAUNCHER=mpirun; fi
fi

# --- The rest is the same everywhere. ---

# One BLAS thread a rank: the ranks are the parallelism.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# Open MPI's mpirun refuses root; on test machines and in containers there is often no one else.
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

if [ -n "${SLURM_JOB_ID:-}" ]; then
    ranks=${SLURM_TASKS_PER_NODE:-1} # of the first node, such as 9 or 5(x2),4
    ranks=${ranks%%[!0-9]*}
    cores=$(env -u OMP_NUM_THREADS nproc)
    policy=none crowded=true
    if [ "$ranks" -le "$cores" ]; then
        crowded=false
        # Each rank has a core of its own, rank 0 above all, if the cores that this job may use are its own. Where SLURM lets
        # jobs use each other's, two jobs would be tied to the same ones.
        [ "$cores" -gt "${SLURM_CPUS_ON_NODE:-1}" ] || policy=core
    fi
    # Ranks that wait give their core away if there are too few. The names belong to Open MPI 5 and 4, and to srun.
    export OMPI_MCA_mpi_yield_when_idle=$crowded
    export PRTE_MCA_hwloc_default_binding_policy=$policy OMPI_MCA_hwloc_base_binding_policy=$policy
    [ $policy = none ] || export SLURM_CPU_BIND=cores
    export PDCODE_LAUNCHER # of `pdcode run`
fi

# The job's name for scontrol, and the name of its folder in results/, which the tasks of an array share.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-${SLURM_JOB_ID:-}}
folder=results/pdcode-${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-$(date +%Y%m%d-%H%M%S)}}

# train NAME CONFIG [OPTION…]: one run, with a rank for each task of the job. In the job's folder are then NAME.toml, a copy of
# CONFIG; NAME.h5, the trace; NAME.job, command and what SLURM knows of the job, at each start; NAME.revision, the revision of the code.
# A run that a signal has ended, and that can go on later, has exit code 75: then the job is put back into the queue.
train() {
    local name=$1 config=$2 run=(python -P -m pdcode run "$2") code=0 pid signal
    shift 2
    [ -z "$job" ] || run+=(-n $((SLURM_NTASKS - 1)))
    run+=(--resume --set "trace.path=$folder/$name.h5" "$@") # the first time there is nothing to go on from

    mkdir -p "$folder"
    [ ! -f "$config" ] || cp "$config" "$folder/$name.toml"
    {
        printf '%q ' "${run[@]}"
        echo
        [ -z "$job" ] || scontrol show job "$job"
    } >>"$folder/$name.job"
    if [ -e "$root/.git" ]; then
        git -C "$root" rev-parse HEAD && git -C "$root" diff HEAD
    else
        python -P -m pdcode --version
    fi >"$folder/$name.revision" 2>&1 || true

    "${run[@]}" & # the shell would wait for the end of a command in the foreground before it heeds a signal
    pid=$!
    for signal in HUP INT TERM USR1; do
        # shellcheck disable=SC2064 # this process, this signal
        trap "stopped=$signal; kill -$signal $pid 2>/dev/null || true" "$signal"
    done
    while kill -0 "$pid" 2>/dev/null; do wait "$pid" || true; done # a signal ends `wait`, too
    wait "$pid" || code=$?
    trap - HUP INT TERM USR1

    # A job that is cancelled is not RUNNING any more, and one that makes room for another has a PreemptTime: SLURM requeues that
    # itself, and would do so once more when it ends.
    local goes_on='JobState=RUNNING .* PreemptTime=None'
    if [ $code -eq 75 ] && [ -n "$job" ] && grep -q "$goes_on" <<<"$(scontrol show job -o "$job")"; then
        echo "job $job: back into the queue"
        scontrol requeue "$job"
    fi
    return $code
}
