"""What an evaluator imports: its verdicts, its view of the program, and strict checks.

An evaluator is a Python file with a function that gets the program and the problem's parameters:

    from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

    def evaluate(program: ProgramHandle, *, count: int) -> Score:
        points = as_floats(program.call("place", count), (count, 2), where="place")
        if points.min() < 0.0:
            raise Infeasible("a point lies left of the square or below it")
        return Score(float(points.sum()))

It runs outside the sandbox, in a process of its own; only `program` reaches inside. It leaves
the program's failures (`evolve.errors.ProgramError`) to its caller: a time-out, an exception or a
crash inside the program passes through it and becomes the verdict.
"""

from evolve.errors import AskError
from evolve.sandbox.replies import Finished
from evolve.scoring.asking import ask, ask_all
from evolve.scoring.handle import ProgramHandle
from evolve.scoring.score import Image, Infeasible, Score, as_floats
from evolve.scoring.timing import Spread, Timing

__all__ = [
    "AskError",
    "Finished",
    "Image",
    "Infeasible",
    "ProgramHandle",
    "Score",
    "Spread",
    "Timing",
    "as_floats",
    "ask",
    "ask_all",
]
