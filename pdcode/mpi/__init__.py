import warnings

# mpi4py warns of a launcher of another MPI on every rank; `process.check_launcher` reports it in one line.
warnings.filterwarnings("ignore", "suspicious MPI execution environment", RuntimeWarning)
