"""Families of codes whose constructions are from the literature; one file for each construction."""
