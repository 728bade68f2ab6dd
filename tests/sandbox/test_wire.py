import contextlib
import math
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evolve.sandbox.guest.wire import MAX_DEPTH, MAX_NODES, FrameError, decode, encode

MB = 1 << 20
KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.tuples(st.integers()))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.text(), inner),
        st.dictionaries(KEYS, inner),
    ),
    max_leaves=20,
)
ARRAYS = hnp.arrays(
    dtype=st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(),
        hnp.unsigned_integer_dtypes(),
        hnp.floating_dtypes(sizes=(16, 32, 64)),
        hnp.complex_number_dtypes(sizes=(64, 128)),
    ),
    shape=hnp.array_shapes(min_dims=0, min_side=0),
)


def count(tag: str, number: int, body: bytes = b"") -> bytes:
    """Returns a tag with a count, and what follows."""
    return tag.encode() + struct.pack("<I", number) + body


def array(dtype: int, shape: list[int], body: bytes) -> bytes:
    return struct.pack(f"<BBB{len(shape)}I", ord("a"), dtype, len(shape), *shape) + body


BOOLS, FLOATS = 0, 11


class TestRoundTrip:
    @settings(max_examples=50)
    @given(VALUES)
    def test_plain_data_arrives_unchanged(self, value: Any) -> None:
        arrived = decode(encode(value, MB))
        assert arrived == value
        assert repr(arrived) == repr(value)

    @given(ARRAYS)
    def test_arrays_arrive_with_dtype_and_shape(self, array: np.ndarray[Any, Any]) -> None:
        arrived = decode(encode([array, 1], MB))[0]
        np.testing.assert_array_equal(arrived, array)
        assert (arrived.shape, arrived.dtype) == (array.shape, array.dtype.newbyteorder("<"))
        assert arrived.flags.writeable

    @given(st.floats())
    def test_every_float_arrives(self, number: float) -> None:
        arrived = decode(encode(number, MB))
        assert struct.pack("<d", arrived) == struct.pack("<d", number) or math.isnan(number)

    @given(
        arrays=st.lists(
            hnp.arrays(
                dtype=st.sampled_from(["<f8", "<i4", "|b1", ">f8"]),
                shape=hnp.array_shapes(max_dims=1, min_side=0),
            ),
            max_size=5,
        )
    )
    def test_lists_of_arrays_arrive_each_with_memory_of_its_own(self, arrays: list[Any]) -> None:
        arrived = decode(encode(arrays, MB))
        assert type(arrived) is list
        for sent, got in zip(arrays, arrived, strict=True):
            np.testing.assert_array_equal(got, sent)
            assert got.dtype == sent.dtype.newbyteorder("<")
            assert got.base is None
            assert got.flags.writeable

    def test_large_arrays_of_a_list_arrive(self) -> None:
        arrays = [np.full(10_000, float(number)) for number in range(5)]
        np.testing.assert_array_equal(decode(encode(arrays, MB)), arrays)

    @pytest.mark.parametrize(
        ("sent", "arrived"),
        [
            (np.float64(0.5), 0.5),
            (np.float32(0.5), 0.5),
            (np.longdouble(0.5), 0.5),
            (np.int64(-3), -3),
            (np.bool_(True), True),
            (np.complex64(1j), 1j),
            (np.str_("x"), "x"),
        ],
    )
    def test_numpy_scalars_arrive_as_plain_numbers(self, sent: Any, arrived: Any) -> None:
        value = decode(encode(sent, MB))
        assert (type(value), value) == (type(arrived), arrived)

    def test_arrays_of_other_layouts_arrive(self) -> None:
        array = np.arange(12, dtype=">i4").reshape(3, 4)[::-1, ::2]
        np.testing.assert_array_equal(decode(encode(array, MB)), array)

    @given(
        st.one_of(
            st.lists(st.floats(allow_nan=False), min_size=14), st.lists(st.integers(), min_size=14)
        )
    )
    def test_long_lists_of_numbers_arrive_as_lists(self, numbers: list[Any]) -> None:
        arrived = decode(encode([numbers, numbers], MB))[1]
        assert [(type(x), x) for x in arrived] == [(type(x), x) for x in numbers]


class TestRefusalToEncode:
    @pytest.mark.parametrize(
        ("value", "match"),
        [
            ({1}, "got a `set`"),
            (object(), "got a `object`"),
            (np.array([object()]), "dtype `object`"),
            (np.array(["x"]), "dtype `<U1`"),
            (np.array(["2020"], dtype="M8[Y]"), "dtype `datetime"),
            ("\ud800", "surrogates"),
            ({"\ud800": 1}, "surrogates"),
            (10**4000, "4000 digits"),
            (np.zeros(MB), r"bytes \(limit: reply_mb\), got"),
            ({(1, frozenset()): 1}, "frozenset"),
            ([0.5, 1] * MAX_NODES, "NumPy arrays, or flat lists"),
        ],
    )
    def test_what_cannot_be_sent_is_named(self, value: Any, match: str) -> None:
        with pytest.raises(FrameError, match=match):
            encode(value, MB)

    def test_a_cycle_is_too_deep(self) -> None:
        cycle: list[Any] = []
        cycle.append(cycle)
        with pytest.raises(FrameError, match="levels"):
            encode(cycle, MB)

    def test_the_deepest_value_still_arrives(self) -> None:
        value: Any = 1
        for _ in range(MAX_DEPTH):
            value = (value,)
        assert decode(encode(value, MB)) == value


class TestRefusalToDecode:
    @settings(max_examples=200)
    @given(st.binary())
    @example(b"")
    @example(count("l", 1 << 31, b"N"))
    @example(count("s", 1 << 31, b"x"))
    @example(count("b", (1 << 32) - 1))
    def test_bytes_are_a_value_or_a_frame_error(self, message: bytes) -> None:
        decode_or_refuse(message)

    @settings(max_examples=100)
    @given(st.data())
    def test_a_damaged_message_is_a_value_or_a_frame_error(self, data: st.DataObject) -> None:
        message = bytearray(encode([data.draw(VALUES), data.draw(ARRAYS)], MB))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(message) - 1))
            message[place] = data.draw(st.integers(0, 255))
        decode_or_refuse(bytes(message[: data.draw(st.integers(0, len(message)))]))
        decode_or_refuse(bytes(message))

    @settings(max_examples=200)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from([bytes([tag]) for tag in b"NTFiIfcsbltdDQa"]),
                st.integers(0, 5).map(lambda number: struct.pack("<I", number)),
                st.binary(max_size=8),
            )
        ).map(b"".join)
    )
    def test_any_row_of_tags_is_a_value_or_a_frame_error(self, message: bytes) -> None:
        decode_or_refuse(message)

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"x",
            b"NN",
            b"i1234567",
            b"f",
            b"c" + bytes(15),
            count("I", 1 << 20, bytes(1 << 20)),
            count("s", 1, b"\xff"),
            count("s", 3, b"\xed\xa0\x80"),
            count("s", 2, b"x"),
            count("b", 1),
            count("l", 1),
            count("l", 1) * 10**6,
            count("l", MAX_NODES + 1, b"N" * (MAX_NODES + 1)),
            count("t", 2, b"N"),
            count("d", 1, b"N"),
            count("d", 1, count("l", 0) + b"N"),
            count("d", 1, count("t", 1, count("l", 0)) + b"N"),
            count("D", 1, b"1234567"),
            count("Q", 1 << 31, b"12345678"),
            array(99, [1], bytes(8)),
            array(FLOATS, [2], bytes(8)),
            array(FLOATS, [1] * 33, bytes(8)),
            array(FLOATS, [1] * 200, bytes(8)),
            array(FLOATS, [0, *[2**32 - 1] * 3], b""),
            array(BOOLS, [1], b"\x02"),
        ],
    )
    def test_each_trick_is_refused(self, message: bytes) -> None:
        with pytest.raises(FrameError):
            decode(message)

    @pytest.mark.parametrize(("tag", "given"), [*((tag, 8) for tag in "ltdsbDQ"), ("l", 63 * MB)])
    def test_what_is_announced_is_refused_before_anything_is_made(
        self, tag: str, given: int
    ) -> None:
        message = count(tag, 63 * MB, bytes(given))
        tracemalloc.start()
        try:
            with pytest.raises(FrameError, match=r"more .* than there (is|are)"):
                decode(message)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MB / 8

    def test_keys_that_collide_are_refused(self) -> None:
        pairs = b"".join(encode((i * (2**61 - 1), 0), MB)[5:] for i in range(1000))
        with pytest.raises(FrameError, match="collide"):
            decode(count("d", 1000, pairs))


def decode_or_refuse(message: bytes) -> None:
    with contextlib.suppress(FrameError):
        decode(message)
