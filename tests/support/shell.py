"""What tests of the command in processes of its own share."""

import os


def environment() -> dict[str, str]:
    """That of a user's shell: no launcher above us."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_"))
    }
