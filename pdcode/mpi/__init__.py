import warnings

# mpi4py warns of a launcher of another MPI, once a rank; `process.check_launcher` says it in one line.
warnings.filterwarnings("ignore", "suspicious MPI execution environment", RuntimeWarning)
