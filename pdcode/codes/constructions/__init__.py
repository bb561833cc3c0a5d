"""Families of codes, each made exactly, and the mathematics that they are made of."""
