"""HL7 v2 messages that went wrong, made of golden ones: bytes, fields, segments, whole messages.

Everything follows from a seed, so that a failure can be made again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

GOLDEN = Path(__file__).parent / "mapping" / "golden"

#: What senders, attackers and broken interfaces put into a field.
WORDS = (
    "", '""', "^", "^^^^", "~", "~~", "&", "&&", "\\", "\\X00\\", "\\XFF\\", "\\E\\", "\\.br\\",
    "\\X", "0", "-1", "1e999", "-0", "1e-400", "NaN", "Infinity", "٣", "½", "5.", ".", "1,2,3",
    "20261118", "20261301", "00000000", "99999999999999", "2026111811+9999",
    "20261118113100.1234567",
    "20261118-0000", "10000101", "\u3000", "\u200b", "𠮷", "é", "\t", "F", "U", "W", "D", "X", "ED",
    "RP", "SN", "CE", "TM", "^application^pdf^Base64^====", "http://x", "A" * 5_000,
    "<script>", "😀",
    "null", "{}", "%s%n", "../../x", "张" * 200, "\x7f", "\x85", "\u2028", "9" * 400, "|",
)  # fmt: skip
SIGNS = b"|^~\\&\r\n\x0b\x1c\x00 \xff\x81MSHOBXPID0123456789"


def seeds(largest: int = 1_600) -> list[bytes]:
    """The golden messages of at most so many bytes."""
    found = [path.read_bytes() for path in sorted(GOLDEN.glob("*.hl7"))]
    return [raw for raw in found if len(raw) <= largest]


def mutants(seed: int, count: int, goldens: list[bytes]) -> Iterator[bytes]:
    """So many messages that went wrong."""
    chance = random.Random(seed)
    for _ in range(count):
        raw = chance.choice(goldens)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
            raw = chance.choice(_WAYS)(chance, raw, goldens)
        yield raw


def _bytes(chance: random.Random, raw: bytes, goldens: list[bytes]) -> bytes:
    at = chance.randrange(len(raw) + 1)
    length = chance.choice((0, 0, 1, 1, 2, 9))
    new = bytes(chance.choice(SIGNS) for _ in range(chance.choice((0, 1, 1, 2, 5))))
    return raw[:at] + new + raw[at + length :]


def _cut(chance: random.Random, raw: bytes, goldens: list[bytes]) -> bytes:
    return raw[: chance.randrange(len(raw) + 1)]


def _field(chance: random.Random, raw: bytes, goldens: list[bytes]) -> bytes:
    lines = raw.split(b"\n")
    at = chance.randrange(len(lines))
    fields = lines[at].split(b"|")
    n = chance.randrange(len(fields))
    donor = chance.choice(chance.choice(goldens).split(b"\n")).split(b"|")
    words = (chance.choice(WORDS).encode(), chance.choice(donor))
    fields[n] = chance.choice(words)
    lines[at] = b"|".join(fields)
    return b"\n".join(lines)


def _component(chance: random.Random, raw: bytes, goldens: list[bytes]) -> bytes:
    lines = raw.split(b"\n")
    at = chance.randrange(len(lines))
    sign = chance.choice((b"^", b"~", b"&"))
    parts = lines[at].split(sign)
    parts[chance.randrange(len(parts))] = chance.choice(WORDS).encode()
    lines[at] = sign.join(parts)
    return b"\n".join(lines)


def _segment(chance: random.Random, raw: bytes, goldens: list[bytes]) -> bytes:
    lines = raw.split(b"\n")
    at = chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[chance.randrange(len(lines))])
        case 2:
            lines.insert(at, chance.choice(chance.choice(goldens).split(b"\n")))
        case _:
            chance.shuffle(lines)
    return b"\n".join(lines)


def _charset(chance: random.Random, raw: bytes, goldens: list[bytes]) -> bytes:
    text = raw.decode("utf-8", "replace")
    if chance.random() < 0.5:
        text = text.replace("UNICODE UTF-8", chance.choice(("GBK", "", "8859/1", "BIG-5", "ASCII")))
    codec = chance.choice(("gb18030", "utf-8", "utf-16", "latin-1"))
    return text.encode(codec, "replace")


def _delimiters(chance: random.Random, raw: bytes, goldens: list[bytes]) -> bytes:
    old, new = chance.choice((b"|", b"^", b"~", b"&", b"\\")), chance.choice((b"|", b"$", b"#"))
    return raw.replace(old, new)


def _random(chance: random.Random, raw: bytes, goldens: list[bytes]) -> bytes:
    text = bytes(chance.choice(SIGNS) for _ in range(chance.randrange(200)))
    return (b"MSH|^~\\&|" if chance.random() < 0.7 else b"") + text


_WAYS = (_bytes, _bytes, _cut, _field, _field, _field, _component, _component, _segment, _segment,
         _charset, _delimiters, _random)  # fmt: skip
