"""Makes bytes shorter and brings them back."""

from coder import Decoder, Encoder
from model import Model

# EVOLVE-BLOCK-START
LENGTH_BYTES = 4


def compress(data):
    """Returns a short form of some bytes."""
    encoder, model = Encoder(), Model()
    for byte in data:
        for place in range(7, -1, -1):
            bit = byte >> place & 1
            encoder.write(bit, model.predict())
            model.learn(bit)
    return len(data).to_bytes(LENGTH_BYTES, "big") + encoder.finish()


def decompress(packed):
    """Returns the bytes of which `compress` made the short form."""
    length = int.from_bytes(packed[:LENGTH_BYTES], "big")
    decoder, model = Decoder(packed[LENGTH_BYTES:]), Model()
    data = bytearray()
    for _ in range(length):
        byte = 0
        for _ in range(8):
            bit = decoder.read(model.predict())
            model.learn(bit)
            byte = byte << 1 | bit
        data.append(byte)
    return bytes(data)


# EVOLVE-BLOCK-END
