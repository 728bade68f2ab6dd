"""Third stage: what models see of a row."""


def features(known, targets, unknown):
    """Returns both tables as numbers; nothing is known of the targets of `unknown`."""
    return known / 16.0, unknown / 16.0
