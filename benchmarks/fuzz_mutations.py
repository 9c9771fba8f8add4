"""Damaging files in ways their readers did not foresee: of bytes, and of what the bytes mean."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

Mutation = Callable[[random.Random, bytes], bytes]
"""From a file's content to a damaged one."""

ODD_VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2**31, 2**63, 10**18, -(10**18), 10**40, 1.5, -0.0, 1e308, float("nan"), float("inf"), True, None),
    *("", "x", "../x", "/etc/passwd", "file:///etc/passwd", "pipe:touch PWNED", ";touch PWNED;", "{a..b}", "*", "\0"),
    *("a\nb", "\x1b[2J", "\ud800", "é" * 300, "9" * 5000, [], {}, [[]], [None], {"": 0}, {"name": {}}),
)
"""What may stand anywhere in a document, and mostly should not."""
_WORDS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_TAR_BLOCK = 512


def mutate(random_: random.Random, content: bytes, others: Sequence[bytes], own: Sequence[Mutation]) -> bytes:
    """One mutant: half of them damaged by a mutation of the format's own, if it has any, the rest by their bytes.

    Args:
        random_: decides everything.
        content: of a sound file.
        others: contents of sound files to splice in.
        own: mutations that know the format.
    """
    if own and random_.random() < 0.5:
        content = random_.choice(own)(random_, content)
        if random_.random() < 0.7:
            return content
    for _ in range(random_.choice((1, 1, 1, 2, 4, 16))):
        content = _any_bytes(random_, content, others)
    return content


def edit_json(random_: random.Random, content: bytes) -> bytes:
    """Put an odd value somewhere into a JSON document, take a part away, nest or repeat it."""
    try:
        document = json.loads(content)
    except ValueError:
        return content
    return _dumped(_edited(random_, document))


def edit_json_lines(random_: random.Random, content: bytes) -> bytes:
    """The same in one line of several."""
    lines = content.split(b"\n")
    place = random_.randrange(len(lines))
    return b"\n".join([*lines[:place], edit_json(random_, lines[place]), *lines[place + 1 :]])


def edit_lines(random_: random.Random, content: bytes) -> bytes:
    """Put an odd value behind a line's `=`, or in a line's place: for TOML and lists."""
    lines = content.split(b"\n")
    place = random_.randrange(len(lines))
    key, equals, _ = lines[place].partition(b"=")
    odd = random_.choice(
        (
            *(b"nan", b"inf", b"-1", b"0x" + b"f" * 5000, b"9" * 5000, b"1e400", b"[" * 100_000, b"{a=" * 20_000),
            *(b'""', b'"../x"', b'"\\u001b[2J"', b"[[]]", b"{}", b"1979-05-27T07:32:00Z", b"a" + b".a" * 10_000),
            *(str(10**18).encode(), b"true", b"'''", b'"""', b"\x00", b"\xff\xfe"),
        )
    )
    lines[place] = key + equals + b" " + odd if equals else odd
    return b"\n".join(lines)


def edit_numbers(random_: random.Random, content: bytes) -> bytes:
    """Replace a number written as text."""
    found = list(_NUMBER.finditer(content))
    if not found:
        return content
    one = random_.choice(found)
    value = random_.choice((b"0", b"-1", b"1" + b"0" * 18, b"9" * 5000, b"1e999", b"NaN", b"2147483648", b"0.5"))
    return content[: one.start()] + value + content[one.end() :]


def edit_safetensors(random_: random.Random, content: bytes) -> bytes:
    """Edit the JSON header and write its length anew, or lie about that."""
    size = int.from_bytes(content[:8], "little")
    header = edit_json(random_, content[8 : 8 + size])
    told = random_.choice((len(header),) * 8 + _WORDS)
    return struct.pack("<Q", told) + header + content[8 + size :]


def edit_zip(random_: random.Random, content: bytes) -> bytes:
    """Change a field of a local header, of the central directory or of its end."""
    places = [found.start() for found in re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)", content)]
    if not places:
        return content
    return _with_word(random_, content, random_.choice(places) + random_.randrange(4, 46))


def edit_tar(random_: random.Random, content: bytes) -> bytes:
    """Change a field of a member's header and make its checksum right again."""
    headers = [place for place in range(0, len(content), _TAR_BLOCK) if content[place + 257 : place + 262] == b"ustar"]
    if not headers:
        return content
    place = random_.choice(headers)
    header = bytearray(content[place : place + _TAR_BLOCK])
    at, length = random_.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
    octal = f"{random_.choice((0, 1, 511, 8 * 2**30, 2**33 - 1)):o}".encode()
    field = random_.choice((octal, b"\x80" + b"\xff" * 11, b"-1", b"../../x", b"x" * 200, b"LKxgS", b"gKLx"))
    header[at : at + length] = field[:length].ljust(length, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return content[:place] + bytes(header) + content[place + _TAR_BLOCK :]


def edit_words(random_: random.Random, content: bytes) -> bytes:
    """Overwrite an aligned number of 1 to 8 bytes: offsets, lengths and codes of FlatBuffers and the like."""
    return _with_word(random_, content, random_.randrange(0, max(1, len(content)), 4))


def edit_head_words(random_: random.Random, content: bytes) -> bytes:
    """The same near the beginning, where formats keep what the rest is read by."""
    return _with_word(random_, content, random_.randrange(0, max(1, min(len(content), 256))))


def edit_varints(random_: random.Random, content: bytes) -> bytes:
    """Put a long number of protobuf in the place of one or a few bytes."""
    place = random_.randrange(max(1, len(content)))
    value = random_.choice((*_WORDS, 10**18))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return content[:place] + bytes(out) + content[place + random_.choice((1, 1, 2, len(out))) :]


def _any_bytes(random_: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Damage that knows nothing of the format."""
    if not content:
        return random_.choice(others)
    place = random_.randrange(len(content))
    size = random_.choice((1, 2, 4, 16, 256))
    kind = random_.randrange(8)
    if kind <= 1:
        flipped = content[place] ^ (1 << random_.randrange(8))
        return content[:place] + bytes([flipped]) + content[place + 1 :]
    if kind == 2:
        return content[:place] + random_.randbytes(size) + content[place + size :]
    if kind == 3:
        return content[:place]
    if kind == 4:
        return content[:place] + content[place + size :]
    if kind == 5:
        return content[:place] + content[place : place + size] * random_.choice((2, 9, 100)) + content[place + size :]
    if kind == 6:
        other = random_.choice(others)
        begin = random_.randrange(max(1, len(other)))
        return content[:place] + other[begin : begin + random_.choice((4, 64, 4096, len(other)))] + content[place:]
    return _with_word(random_, content, place)


def _with_word(random_: random.Random, content: bytes, place: int) -> bytes:
    size = random_.choice((1, 2, 4, 4, 8))
    word = random_.choice(_WORDS) & (2 ** (8 * size) - 1)
    return content[:place] + word.to_bytes(size, random_.choice(("little", "little", "big"))) + content[place + size :]


def _edited(random_: random.Random, document: Any) -> Any:
    """Walk down to a random part and change it."""
    if isinstance(document, dict) and document and random_.random() < 0.9:
        key = random_.choice(list(document))
        if random_.random() < 0.1:
            return {other: value for other, value in document.items() if other != key}
        if random_.random() < 0.05:
            return {**document, random_.choice(("", "x", "__class__", "self")): random_.choice(ODD_VALUES)}
        return {**document, key: _edited(random_, document[key])}
    if isinstance(document, list) and document and random_.random() < 0.9:
        place = random_.randrange(len(document))
        if random_.random() < 0.1:
            return document[:place] + document[place + 1 :]
        if random_.random() < 0.05:
            return document * 50
        return [*document[:place], _edited(random_, document[place]), *document[place + 1 :]]
    if random_.random() < 0.02:
        return _Nested(random_.choice((100, 100_000)))
    return random_.choice(ODD_VALUES)


class _Nested:
    """Lists within lists, deeper than `json` itself writes."""

    def __init__(self, depth: int) -> None:
        self.depth = depth


def _dumped(document: Any) -> bytes:
    nested: list[_Nested] = []

    def stand_in(value: Any) -> str:
        nested.append(value)
        return "@nested@"

    text = json.dumps(document, default=stand_in)
    for one in nested:
        text = text.replace('"@nested@"', "[" * one.depth + "]" * one.depth, 1)
    return text.encode()
