"""Why a run stopped: the words that `show` prints as `stopped_because`.

A failure leaves the name of its error and a message instead.
"""

GENERATIONS = "generations"
TARGET = "target"
PATIENCE = "patience"
RECORDING = "recording"
INTERRUPTED = "interrupted"
FRUITLESS = "fruitless"
MAX_SECONDS = "max_seconds"
MAX_EVALUATIONS = "max_evaluations"
MAX_CALLS = "max_calls"
MAX_TOKENS = "max_tokens"
MAX_COST = "max_cost_usd"

# A run that ended for one of these did all that it was asked for.
FINISHED = frozenset({GENERATIONS, TARGET, PATIENCE, RECORDING})

# The fact that holds the last generation of a fruitless end, from which a resume counts anew.
FRUITLESS_UNTIL = "fruitless_until"
