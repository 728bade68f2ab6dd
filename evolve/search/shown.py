"""Which programs a prompt shows in full: strong ones that differ from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.archive.selection import make_lottery
from evolve.source.signatures import share_in_common

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    from evolve.archive import Elite
    from evolve.population import Population

# Programs with more of their source in common are the same approach.
_ALIKE = 0.6
# An elite is shown only with so much of what the champion gained on the starting program.
_LEAST_GAIN = 0.8


def choose_shown(
    population: Population,
    rng: Generator,
    *,
    count: int,
    sketch_of: Callable[[Elite], NDArray[np.uint32]],
    skeleton_of: Callable[[Elite], str],
) -> list[Elite]:
    """Returns the elites that a prompt shows: the champion, then others, all of them strong.

    Those are the best of other approaches, one that is drawn as parents are, so that two
    generations do not see the same page, and the best of all the rest. Of programs that differ in
    tuned constants only, one is shown.

    Args:
        population: The state that the generation follows from.
        rng: Draws one of them.
        count: Most elites; 1 shows the champion alone.
        sketch_of: Returns the sketch of an elite's source.
        skeleton_of: Returns the source of an elite without its tuned constants.

    Raises:
        ValueError: The population is empty.
    """
    champion, start = population.champion, population.start
    if champion is None or start is None:
        raise ValueError("population: expected a champion, got none")
    page = _Page(champion, start, population.direction.sign, sketch_of, skeleton_of)
    ranked = _rank(population)
    others = count // 2
    for elite in ranked:
        if len(page.chosen) <= others:
            page.offer(elite, differs=True)
    for elite in _draw(population, rng):
        if len(page.chosen) < count and page.offer(elite):
            break
    for elite in ranked:
        if len(page.chosen) < count:
            page.offer(elite)
    return page.chosen[:count]


class _Page:
    """The elites chosen so far, the champion first.

    Args:
        champion: The best program.
        start: The starting program, which is shown only where nothing is better.
        sign: +1 when larger objectives are better, -1 when smaller ones are.
        sketch_of: Returns the sketch of an elite's source.
        skeleton_of: Returns the source of an elite without its tuned constants.
    """

    def __init__(
        self,
        champion: Elite,
        start: Elite,
        sign: float,
        sketch_of: Callable[[Elite], NDArray[np.uint32]],
        skeleton_of: Callable[[Elite], str],
    ) -> None:
        self.chosen = [champion]
        self._skeletons = {skeleton_of(champion), skeleton_of(start)}
        self._sign = sign
        self._sketch_of = sketch_of
        self._skeleton_of = skeleton_of
        gained = sign * (champion.objective - start.objective)
        self._least = sign * start.objective + _LEAST_GAIN * gained

    def offer(self, elite: Elite, *, differs: bool = False) -> bool:
        """Chooses an elite that is new and strong; returns whether it was chosen.

        Args:
            elite: The elite.
            differs: Whether it must be another approach than those chosen so far.
        """
        if self._sign * elite.objective < self._least:
            return False
        skeleton = self._skeleton_of(elite)
        if skeleton in self._skeletons or (differs and self._is_alike(elite)):
            return False
        self.chosen.append(elite)
        self._skeletons.add(skeleton)
        return True

    def _is_alike(self, elite: Elite) -> bool:
        own = self._sketch_of(elite)
        return any(share_in_common(own, self._sketch_of(one)) >= _ALIKE for one in self.chosen)


def _rank(population: Population) -> Sequence[Elite]:
    """Returns the elites of all islands, each program once, the best first."""
    sign = population.direction.sign
    elites = {
        elite.program_id: elite
        for archive in population.islands.archives
        for elite in archive.elites
    }
    return sorted(elites.values(), key=lambda elite: (-sign * elite.objective, elite.key))


def _draw(population: Population, rng: Generator) -> Iterator[Elite]:
    """Yields elites as parents are drawn, each from the next island."""
    islands = population.islands
    lotteries = [
        make_lottery(
            archive,
            islands.strategy.rule,
            entropy=population.entropy,
            visit_penalty=islands.settings.visit_penalty,
        )
        for archive in islands.archives
        if len(archive)
    ]
    first = int(rng.integers(len(lotteries)))
    for number in range(4 * len(lotteries)):
        island = (first + number) % len(lotteries)
        yield islands.archives[island].elites[lotteries[island].draw(rng)]
