"""Turns bits of known chances into bytes and back: a binary arithmetic coder."""

# EVOLVE-BLOCK-START
TOP = 0xFF000000
MASK = 0xFFFFFFFF


class Encoder:
    """Writes bits; the likelier a bit was, the less space it takes."""

    def __init__(self):
        self.low, self.high = 0, MASK
        self.packed = bytearray()

    def write(self, bit, chance):
        """Writes a bit that is set with a chance of so many in 65536."""
        middle = self.low + (self.high - self.low) * chance // 65536
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while not (self.low ^ self.high) & TOP:
            self.packed.append(self.high >> 24)
            self.low = self.low << 8 & MASK
            self.high = self.high << 8 & MASK | 255

    def finish(self):
        """Returns all bytes."""
        return bytes(self.packed) + bytes([(self.low >> 24) + 1])


class Decoder:
    """Reads what an encoder wrote, told the same chances."""

    def __init__(self, packed):
        self.low, self.high = 0, MASK
        self.rest = iter(packed)
        self.value = 0
        for _ in range(4):
            self.value = self.value << 8 | next(self.rest, 0)

    def read(self, chance):
        """Returns the next bit, which is set with a chance of so many in 65536."""
        middle = self.low + (self.high - self.low) * chance // 65536
        bit = int(self.value <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while not (self.low ^ self.high) & TOP:
            self.low = self.low << 8 & MASK
            self.high = self.high << 8 & MASK | 255
            self.value = self.value << 8 & MASK | next(self.rest, 0)
        return bit


# EVOLVE-BLOCK-END
