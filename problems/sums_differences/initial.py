"""Builds a set of whole numbers: a range without some numbers near its ends."""


# EVOLVE-BLOCK-START
def build():
    """Gives different whole numbers."""
    length, gap, every, extra = 40, 5, 3, 4
    chosen = set(range(gap, length - gap))
    for i in range(0, gap, every):
        chosen.add(i)
        chosen.add(length - 1 - i)
    chosen.add(length + extra)
    return sorted(chosen)


# EVOLVE-BLOCK-END
