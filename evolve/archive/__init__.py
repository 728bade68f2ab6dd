"""Cells, archives, islands, parent selection, and one rule of credit."""

from evolve.archive.archives import AddStatus, Archive, Elite, Islands

__all__ = ["AddStatus", "Archive", "Elite", "Islands"]
