"""Runs gone through again: their search, and their verdicts."""
