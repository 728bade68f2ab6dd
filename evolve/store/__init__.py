"""The run's database."""

from evolve.store.lock import is_locked
from evolve.store.opening import DATABASE
from evolve.store.store import Store

__all__ = ["DATABASE", "Store", "is_locked"]
