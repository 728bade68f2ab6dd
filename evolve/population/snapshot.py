"""What a run has reached, without folding all of its attempts again.

A snapshot is derived: it is passed over where it does not fit, and may be deleted at any time.
The search itself never starts from one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from evolve import __version__
from evolve.archive import Elite
from evolve.archive.progress import Merit
from evolve.population import Standing
from evolve.population.frozen import expect_frozen
from evolve.records import AttemptKey

if TYPE_CHECKING:
    from evolve.archive import Archive
    from evolve.problem import Problem
    from evolve.settings.sections import SearchSettings
    from evolve.store import Store

# Of what a snapshot holds.
_VERSION = 2
# A snapshot takes time in proportion to the elites, so it waits for a part as many attempts; what
# came after it takes `show` far longer than what is in it.
_PART = 4
_FEWEST_ATTEMPTS = 256


class SnapshotKeeper:
    """Keeps the snapshot of a running search fresh enough.

    Args:
        store: The run's database, open to write.
        problem: Measures and direction.
        settings: Islands and migration.
    """

    def __init__(self, store: Store, problem: Problem, settings: SearchSettings) -> None:
        self._store = store
        self._version = _version(problem, settings)
        # None: as yet all of them, for all that is known of an earlier invocation.
        self._attempts: int | None = None

    def on_commit(self, standing: Standing, attempts: int) -> None:
        """Takes note of a commit; now and then a snapshot is saved.

        Raises:
            StoreError: It cannot be written.
        """
        if self._attempts is None:
            self._attempts = standing.evaluations
        self._attempts += attempts
        elites = sum(len(archive) for archive in standing.islands.archives)
        if self._attempts >= max(_FEWEST_ATTEMPTS, elites // _PART):
            self._store.save_snapshot(self._version, _dump(standing))
            self._attempts = 0


def load_standing(store: Store, problem: Problem, settings: SearchSettings) -> Standing:
    """Returns what a run has reached as of its last committed generation.

    Raises:
        UsageError: The settings are not those that the run began with.
        StoreError: The database cannot be read.
    """
    expect_frozen(store, problem, settings)
    standing = Standing(problem, settings)
    data = store.load_snapshot(_version(problem, settings))
    if data is not None:
        try:
            _restore(standing, data)
        # It is derived, and the run may be anybody's: one of another form is skipped.
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
            standing = Standing(problem, settings)
    last = store.last_generation()
    if last is not None:
        told = store.light_attempts(standing.generation + 1)
        for _ in standing.tell_all(told, last):
            pass
    return standing


def _version(problem: Problem, settings: SearchSettings) -> str:
    text = repr(
        (_VERSION, __version__, problem.direction, problem.measures, problem.objectives, settings)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _dump(standing: Standing) -> dict[str, Any]:
    champion = standing.champion
    return {
        "generation": standing.generation,
        "evaluations": standing.evaluations,
        "samples": standing.samples,
        "tuned": sorted(standing.tuned),
        "initial": standing.initial,
        "progressed_at": standing.progressed_at,
        "champion": None if champion is None else _dump_elite(champion),
        "start": None if standing.start is None else _dump_elite(standing.start),
        "stalls": standing.stalls.dump(),
        "first_places": standing.first_places,
        "is_cut": standing.is_cut,
        "migrations": standing.islands.migrations,
        "archives": [
            {
                "elites": [_dump_elite(elite) for elite in archive.elites],
                "children": archive.children.tolist(),
                "curiosity": list(archive.curiosity_by_cell.items()),
                "out_of_range": archive.out_of_range,
            }
            for archive in standing.islands.archives
        ],
    }


def _dump_elite(elite: Elite) -> list[Any]:
    return [
        elite.key,
        elite.program_id,
        elite.objective,
        elite.measures,
        elite.origin,
        elite.depth,
        elite.parent,
        elite.others,
        elite.merit,
    ]


def _restore(standing: Standing, data: dict[str, Any]) -> None:
    standing.generation = int(data["generation"])
    standing.evaluations = int(data["evaluations"])
    standing.samples = int(data["samples"])
    standing.tuned = {_load_key(key) for key in data["tuned"]}
    standing.initial = None if data["initial"] is None else float(data["initial"])
    standing.progressed_at = int(data["progressed_at"])
    if data["champion"] is not None:
        standing.champion = _load_elite(data["champion"])
    if data["start"] is not None:
        standing.start = _load_elite(data["start"])
    standing.stalls.restore(data["stalls"])
    standing.islands.migrations = data["migrations"]
    standing.first_places = [tuple(place) for place in data["first_places"]]
    standing.is_cut = data["is_cut"]
    if standing.is_cut:
        standing.islands.cut_around(standing.first_places)
    for archive, part in zip(standing.islands.archives, data["archives"], strict=True):
        _restore_archive(archive, part)


def _restore_archive(archive: Archive, data: dict[str, Any]) -> None:
    for elite in data["elites"]:
        archive.add(_load_elite(elite))
    archive.children[:] = data["children"]
    archive.curiosity_by_cell = dict(map(tuple, data["curiosity"]))
    archive.out_of_range = data["out_of_range"]


def _load_elite(data: list[Any]) -> Elite:
    key, program_id, objective, measures, origin, depth, parent, others, merit = data
    return Elite(
        key=_load_key(key),
        program_id=str(program_id),
        objective=float(objective),
        measures=tuple(map(float, measures)),
        origin=int(origin),
        depth=int(depth),
        parent=None if parent is None else _load_key(parent),
        others=tuple(map(float, others)),
        merit=Merit(float(merit[0]), tuple(map(float, merit[1])), tuple(map(float, merit[2]))),
    )


def _load_key(data: list[Any]) -> AttemptKey:
    generation, slot, number = map(int, data)
    return AttemptKey(generation, slot, number)
