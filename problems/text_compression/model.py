"""Predicts the next bit of a text."""

# EVOLVE-BLOCK-START
ORDER = 0  # tune: 0 .. 6
RATE = 0.02  # tune: 0.005 .. 0.5 log
LEAST_CHANCE = 64  # tune: 1 .. 4096 log


class Model:
    """Knows how often a bit was set after the same last bytes.

    `ORDER` says how many bytes count, beside the bits of the one that is not complete.
    """

    def __init__(self):
        self.chances = {}
        self.last = b""
        self.partial = 1

    def predict(self):
        """Returns the chance that the next bit is set, from 1 to 65535 in 65536."""
        chance = int(65536 * self.chances.get((self.last, self.partial), 0.5))
        return min(max(chance, LEAST_CHANCE), 65536 - LEAST_CHANCE)

    def learn(self, bit):
        """Takes the next bit into account."""
        context = self.last, self.partial
        chance = self.chances.get(context, 0.5)
        self.chances[context] = chance + (bit - chance) * RATE
        self.partial = self.partial << 1 | bit
        if self.partial > 255:
            recent = self.last + bytes([self.partial & 255])
            self.last = recent[len(recent) - ORDER :] if ORDER else b""
            self.partial = 1


# EVOLVE-BLOCK-END
