"""A run from its first evaluation to its last commit."""
