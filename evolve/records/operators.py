"""Names that plans give as their operator, beside those of the operators themselves."""

# A sample of a session that tunes constants.
TUNE = "tune_constants"
# Between the names of operators that were applied in a row, in a leap.
OPERATOR_JOIN = "+"
