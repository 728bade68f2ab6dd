"""Scores C programs by the time they take for edit distances, beside a reference."""

from __future__ import annotations

import random

from evolve.scoring import Finished, Infeasible, ProgramHandle, Score

Pair = tuple[str, str]

REPEATS = 5
# Stands here and not in the problem folder, so that no pair can be drawn beforehand.
_STREAM = 20_261_123
_FIRST, _LAST = 33, 126
_REFERENCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MAX_LENGTH 4000
static int rows[2][MAX_LENGTH + 1];
static int distance(const char *a, int n, const char *b, int m)
{
    int *row = rows[0], *last = rows[1];
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int *swap = last; last = row; row = swap;
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int least = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < least) least = last[j] + 1;
            if (row[j - 1] + 1 < least) least = row[j - 1] + 1;
            row[j] = least;
        }
    }
    return row[m];
}
static int read_line(char *line)
{
    if (!fgets(line, MAX_LENGTH + 2, stdin)) exit(2);
    int length = (int)strcspn(line, "\n");
    line[length] = '\0';
    return length;
}
int main(void)
{
    static char a[MAX_LENGTH + 2], b[MAX_LENGTH + 2];
    read_line(a);
    for (int pairs = atoi(a); pairs > 0; pairs--) {
        int n = read_line(a), m = read_line(b);
        printf("%d\n", distance(a, n, b, m));
    }
    return 0;
}
"""


def evaluate(program: ProgramHandle, *, seed: int, pairs: int, length: int) -> Score:
    """Scores a program that reads pairs of strings and writes their distances."""
    rng = random.Random(_STREAM + seed)  # noqa: S311 - inputs, not secrets
    small = draw_small_pairs(rng)
    finished = program.run(stdin=write_pairs(small), outputs=["main"])
    check_answers(finished, small)
    # No seed leads to what is timed: each round has pairs that no program has ever seen.
    fresh = random.SystemRandom()
    drawn = [draw_pairs(fresh, pairs, length) for _ in range(REPEATS + 1)]
    texts = map(write_pairs, drawn)
    reference = program.other({"main.c": _REFERENCE})
    timing = program.time_run(stdin=lambda: next(texts), repeats=REPEATS, reference=reference)
    for value, given in zip(timing.values, drawn[1:], strict=True):
        check_answers(value, given)
    ratio = timing.ratio
    return Score(
        ratio.median,
        metrics={
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
            "cpu_seconds": timing.cpu_seconds.median,
        },
        measures={"executable_kb": len(finished.file("main")) / 1024},
        artifacts={
            "times": f"{ratio.median:.4g} times the reference, from {ratio.low:.4g} to "
            f"{ratio.high:.4g} in {REPEATS} pairs of runs"
        },
    )


def find_distance(a: str, b: str) -> int:
    """Returns the exact edit distance, a whole column of the table at a time.

    Differences of neighbours in the table are -1, 0 or 1: two bits each, in two long whole
    numbers (Hyyro 2003, A bit-vector algorithm for computing Levenshtein and Damerau edit
    distances, after Myers 1999).
    """
    if not a:
        return len(b)
    places: dict[str, int] = {}
    for index, letter in enumerate(a):
        places[letter] = places.get(letter, 0) | 1 << index
    full = (1 << len(a)) - 1
    last = 1 << (len(a) - 1)
    rises, falls, distance = full, 0, len(a)
    for letter in b:
        same = places.get(letter, 0)
        diagonal = (((same & rises) + rises) ^ rises) | same | falls
        right_rises = falls | (full & ~(diagonal | rises))
        right_falls = rises & diagonal
        distance += bool(right_rises & last) - bool(right_falls & last)
        right_rises = (right_rises << 1 | 1) & full
        right_falls = right_falls << 1 & full
        rises = right_falls | (full & ~(diagonal | right_rises))
        falls = right_rises & diagonal
    return distance


def draw_small_pairs(rng: random.Random) -> list[Pair]:
    """Draws pairs that programs go wrong on: empty, equal, at the ends of words of memory."""
    pairs = [("", ""), ("", "a"), ("abc", ""), ("kitten", "sitting"), ("~" * 600, "!" * 599)]
    for size in (1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 700):
        text = _draw_text(rng, size, 3)
        other = _draw_text(rng, min(4000, size + rng.randint(-1, 1)), 3)
        pairs += [(text, text), (text, other), (other, text[: size // 2])]
    longest = _draw_text(rng, 4000, 3)
    pairs += [(longest, longest), (longest, longest[1:]), (longest[:2049], longest[:2048])]
    for _ in range(200):
        sizes = rng.randint(0, 12), rng.randint(0, 12)
        pairs.append((_draw_text(rng, sizes[0], 2), _draw_text(rng, sizes[1], 2)))
    rng.shuffle(pairs)
    return pairs


def draw_pairs(rng: random.Random, count: int, length: int) -> list[Pair]:
    """Draws the pairs that are timed: unrelated ones, ones alike, ones of different lengths."""
    pairs = []
    for number in range(count):
        letters = rng.choice((2, 4, 20, 94))
        first = _draw_text(rng, rng.randint(length // 2, length), letters)
        kind = number % 3
        if kind == 0:
            second = _draw_text(rng, rng.randint(length // 2, length), letters)
        elif kind == 1:
            second = _change_text(rng, first)[:length]
        else:
            second = _draw_text(rng, rng.randint(length // 20, length // 3), letters)
        pairs.append((first, second) if rng.random() < 0.5 else (second, first))
    return pairs


def write_pairs(pairs: list[Pair]) -> str:
    """Returns the pairs as the program reads them."""
    return "".join([f"{len(pairs)}\n", *(f"{a}\n{b}\n" for a, b in pairs)])


def check_answers(finished: Finished, pairs: list[Pair]) -> None:
    """Compares what a program wrote with the distances.

    Raises:
        Infeasible: An answer is wrong, missing, or more than a whole number.
    """
    expected = [find_distance(*pair) for pair in pairs]
    lines = finished.text.split("\n")
    if lines[-1] != "" or len(lines) - 1 != len(pairs):
        raise Infeasible(
            f"expected {len(pairs)} lines, each with a newline, got {len(finished.text)} "
            f"characters with {len(lines) - 1} newlines"
        )
    for number, (line, distance) in enumerate(zip(lines, expected, strict=False)):
        if line != str(distance):
            lengths = " and ".join(str(len(text)) for text in pairs[number])
            raise Infeasible(
                f"a pair of {lengths} characters: expected {distance}, got {line[:40]!r}"
            )


def _draw_text(rng: random.Random, size: int, letters: int) -> str:
    start = rng.randint(_FIRST, _LAST + 1 - letters)
    return "".join(chr(rng.randrange(start, start + letters)) for _ in range(size))


def _change_text(rng: random.Random, text: str) -> str:
    letters_of_it = sorted(set(text)) or ["a"]
    parts = list(text)
    for _ in range(rng.randint(1, max(1, len(text) // 20))):
        place = rng.randrange(len(parts))
        letter = rng.choice(letters_of_it)
        parts[place] = rng.choice(("", letter, parts[place] + letter))
    return "".join(parts)
