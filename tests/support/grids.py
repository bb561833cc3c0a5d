"""The size of grids and samples that `make test-long` has whole."""

from hypothesis import settings

LONG = settings.get_current_profile_name() == "long"
