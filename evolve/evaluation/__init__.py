"""Program to evaluation: trusted evaluator processes, each with a warm sandbox.

Nothing is imported here: the evaluator process itself starts in this package, and would wait for
what only the other side needs.
"""
