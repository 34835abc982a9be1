"""Frames of MLLP: whatever pieces a connection brings, the same messages come out."""

from __future__ import annotations

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.hl7v2.mllp_frames import Frame, Frames, framed

MESSAGES = st.lists(
    st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\x0b\x1c")), max_size=6
)
NOISE = st.binary(max_size=8).map(lambda raw: raw.replace(b"\x0b", b""))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@settings(max_examples=examples(200))
@given(MESSAGES, st.lists(NOISE, min_size=7, max_size=7), st.lists(st.integers(0, 500), max_size=9))
def test_pieces_make_no_difference(
    messages: list[bytes], noise: list[bytes], cuts: list[int]
) -> None:
    wire = noise[0] + b"".join(framed(message) + noise[n + 1] for n, message in enumerate(messages))
    frames = Frames(1_000)
    found = [frame for piece in pieces(wire, cuts) for frame in frames.feed(piece)]
    assert found == [Frame(message) for message in messages]
    assert not frames.inside


@settings(max_examples=examples(200))
@given(st.lists(st.binary(max_size=80), max_size=10))
def test_hostile_bytes_stay_within_bounds(parts: list[bytes]) -> None:
    frames = Frames(50)
    for part in parts:
        for frame in frames.feed(part):
            assert len(frame.message) <= 50
            assert b"\x0b" not in frame.message
            assert b"\x1c" not in frame.message


def test_a_message_over_the_limit_keeps_its_head_only() -> None:
    frames = Frames(10)
    assert frames.feed(b"\x0bMSH|" + b"x" * 4) == []
    assert frames.feed(b"y" * 1_000) == []
    assert frames.feed(b"\x1c\r\x0bok\x1c\r") == [
        Frame(b"MSH|xxxxyy", "too-long"),
        Frame(b"ok"),
    ]
    assert Frames(3).feed(framed(b"abc")) == [Frame(b"abc")]


def test_a_message_that_was_cut_off_is_told_from_the_next() -> None:
    assert Frames(99).feed(b"\x0bMSH|1\x0bMSH|2\x1c\r") == [
        Frame(b"MSH|1", "cut-off"),
        Frame(b"MSH|2"),
    ]


def test_an_end_without_its_return_is_an_end() -> None:
    assert Frames(99).feed(b"\x0ba\x1c\x0bb\x1c\n") == [Frame(b"a"), Frame(b"b")]
