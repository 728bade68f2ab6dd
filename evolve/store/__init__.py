"""The run's database."""

from evolve.store.connection import DATABASE, find_holder, is_locked
from evolve.store.store import Store

__all__ = ["DATABASE", "Store", "find_holder", "is_locked"]
