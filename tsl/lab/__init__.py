"""Experiments that are too long for a cell."""
