"""The run's database."""

from evolve.store.lock import is_locked
from evolve.store.store import DATABASE, Store

__all__ = ["DATABASE", "Store", "is_locked"]
