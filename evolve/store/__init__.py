"""The run's database."""

from evolve.store.lock import find_holder, is_locked
from evolve.store.opening import DATABASE
from evolve.store.store import Store

__all__ = ["DATABASE", "Store", "find_holder", "is_locked"]
