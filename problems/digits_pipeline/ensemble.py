"""Last stage: one prediction from those of all models."""


def ensemble(held, targets, final):
    """Returns the prediction for each row that is asked for.

    `held` has what each model said of the known rows when it had not learnt from them, shape
    (models, rows, width); `final` the same of the rows that are asked for.
    """
    return final.mean(axis=0)
