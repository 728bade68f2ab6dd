"""All that the search knows of committed attempts, as a fold over them.

So it can be rebuilt from the store at any generation, and nothing else needs to be saved.
"""

from evolve.population.population import Population
from evolve.population.state import RunState

__all__ = ["Population", "RunState"]
