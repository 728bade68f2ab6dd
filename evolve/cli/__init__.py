"""The command line."""

from evolve.cli.app import main

__all__ = ["main"]
