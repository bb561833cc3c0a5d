"""Planning: the search for the best scheme by simulated descents, `pdcode plan`."""
