"""Studies: search for the best scheme (plan), tournaments of schemes (compare), runs under faults (chaos)."""
