"""Builds a set of whole numbers: a range without some numbers near its ends."""


# EVOLVE-BLOCK-START
def build():
    """Returns different whole numbers."""
    length, gap, every, extra = 40, 5, 3, 4
    low, high = [0, 2, 3], [1, 4, 9]
    chosen = set(range(gap, length - gap))
    for i in range(0, gap, every):
        chosen.add(i)
        chosen.add(length - 1 - i)
    for i in low:
        chosen.add(i - extra)
    for i in high:
        chosen.add(length + i)
    return sorted(chosen)


# EVOLVE-BLOCK-END
