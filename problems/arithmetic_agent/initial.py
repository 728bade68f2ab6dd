import re

from evolve import ask

# EVOLVE-BLOCK-START
PART = 8
PROMPT = "What is {}? Think step by step."


def solve(terms):
    """Adds part by part, each to the sum of those before."""
    total = None
    while terms:
        part, terms = terms[:PART], terms[PART:]
        numbers = part if total is None else [total, *part]
        total = add(numbers)
    return total


# EVOLVE-BLOCK-END


def add(numbers):
    """Asks the model for a sum."""
    text = str(numbers[0]) + "".join(f" {'-' if n < 0 else '+'} {abs(n)}" for n in numbers[1:])
    if len(numbers) == 1:
        return numbers[0]
    found = re.findall(r"-?\d+", ask(PROMPT.format(text)))
    return int(found[-1]) if found else 0
