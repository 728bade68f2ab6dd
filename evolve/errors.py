"""The exception tree.

    EvolveError                 base; carries the exit code of the command line
    ├── UsageError              2: wrong arguments, settings, or a folder that is not a run
    │   └── ProblemError        2: a problem folder that cannot be used
    └── MachineError            4: the machine failed, the program under search did not
        ├── SandboxError        no sandbox, or it broke
        │   └── SandboxKilledError       it was killed from outside while a program ran
        ├── EvaluatorError      the trusted evaluator's process broke again and again
        ├── ModelError          a language model cannot be used (key, name, quota)
        │   └── ModelUnavailableError    it did not answer within the deadline
        └── StoreError          the run's database cannot be read or written
            └── DamagedStoreError        something of it is lost, so that it cannot be resumed

Outside this tree, `BudgetExhaustedError` unwinds a slot when a hard cap is reached, a
`ProgramError` says that a program under search failed, and an `AskError` says that a model cannot
be asked; none of them ends the command.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Why the command ended, as its exit status."""

    OK = 0
    BUG = 1
    USAGE = 2
    NO_IMPROVEMENT = 3
    MACHINE = 4
    DIFFERENT = 5
    INTERRUPTED = 130


class EvolveError(Exception):
    """Base of the errors that the command line prints without a traceback."""

    exit_code = ExitCode.BUG


class UsageError(EvolveError):
    """The user asked for something that cannot be done as asked."""

    exit_code = ExitCode.USAGE


class ProblemError(UsageError):
    """The problem folder cannot be used."""


class MachineError(EvolveError):
    """The machine failed; the run stops and can be resumed."""

    exit_code = ExitCode.MACHINE


class SandboxError(MachineError):
    """No sandbox isolates here, or the one in use broke."""


class SandboxKilledError(SandboxError):
    """The sandbox was killed from outside while a program ran: nothing is known about that."""


class EvaluatorError(MachineError):
    """The trusted evaluator itself is broken."""


class ModelError(MachineError):
    """A language model cannot be used: key, name, quota, address."""


class ModelUnavailableError(ModelError):
    """A language model did not answer within the deadline, all retries included."""


class StoreError(MachineError):
    """The run's database cannot be read or written."""


class DamagedStoreError(StoreError):
    """Something of the run's database is lost; what is left of it may be saved."""


class EvaluationCutError(Exception):
    """An evaluation was ended by a cap on time; nothing is known about its program."""


class AskError(RuntimeError):
    """A model cannot be asked: the problem allows none, the cap is reached, or no answer came."""


class BudgetExhaustedError(Exception):
    """A hard cap would be passed; the slot ends without another attempt.

    Args:
        cap: Name of the cap, as in the settings: `max_cost_usd`, `max_calls`, ...
        reason: What was needed and what there is.
    """

    def __init__(self, cap: str, reason: str = "") -> None:
        super().__init__(reason or cap)
        self.cap = cap


class ProgramError(Exception):
    """A program under search failed inside the sandbox.

    Args:
        status: One of the failing values of `records.Status`.
        reason: One line that says what happened.
        detail: Traceback or last output, bounded and free of control characters.
        plain: What may be said of it where nothing that the program chose may travel; the reason
            itself where the program has no part in that.
        limit: Name of the limit that it went beyond, if it did.
    """

    def __init__(
        self,
        status: str,
        reason: str,
        detail: str = "",
        *,
        plain: str | None = None,
        limit: str = "",
    ) -> None:
        super().__init__(reason)
        self.plain = reason if plain is None else plain
        self.status = status
        self.reason = reason
        self.detail = detail
        self.limit = limit
