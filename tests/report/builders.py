from evolve.archive import Elite
from evolve.archive.merit import Merit
from evolve.records import AttemptKey


def make_elite(number: int, objective: float, measures: tuple[float, ...] = ()) -> Elite:
    return Elite(
        key=AttemptKey(number, 0, 0),
        program_id=f"program{number}",
        objective=objective,
        measures=measures,
        origin=0,
        depth=number,
        parent=None,
        merit=Merit(objective),
    )
