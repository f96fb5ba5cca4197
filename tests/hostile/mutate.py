"""Damage to bytes, as chance and attackers make it."""

from collections.abc import Callable

import numpy as np

Damage = Callable[[np.random.Generator, bytearray], bytes]
# Numbers at which counts and lengths go wrong.
EDGES = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1]


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """The data with one to four kinds of damage."""
    for _ in range(int(rng.integers(1, 5))):
        data = DAMAGES[rng.integers(len(DAMAGES))](rng, bytearray(data)) if data else data
    return data


def place(rng: np.random.Generator, data: bytes) -> int:
    """A position; mostly near the start or the end, where formats keep their lengths."""
    near = min(len(data), 400)
    spot = int(rng.integers(near))
    return [spot, len(data) - 1 - spot, int(rng.integers(len(data)))][rng.integers(3)]


def _flip(rng: np.random.Generator, data: bytearray) -> bytes:
    for _ in range(int(rng.integers(1, 9))):
        data[place(rng, data)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _cut(rng: np.random.Generator, data: bytearray) -> bytes:
    return bytes(data[: place(rng, data)])


def _edge(rng: np.random.Generator, data: bytearray) -> bytes:
    size, at = int(rng.choice([1, 2, 4, 8])), place(rng, data)
    value = int(EDGES[rng.integers(len(EDGES))]) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, ["little", "big"][rng.integers(2)])
    return bytes(data)


def _repeat(rng: np.random.Generator, data: bytearray) -> bytes:
    at = place(rng, data)
    part = data[at : at + int(rng.integers(1, 200))]
    return bytes(data[:at] + part * int(rng.integers(1, 50)) + data[at:])


def _remove(rng: np.random.Generator, data: bytearray) -> bytes:
    at = place(rng, data)
    return bytes(data[:at] + data[at + int(rng.integers(1, 200)) :])


def _zeros(rng: np.random.Generator, data: bytearray) -> bytes:
    at = place(rng, data)
    data[at : at + 64] = bytes(min(64, len(data) - at))
    return bytes(data)


DAMAGES: list[Damage] = [_flip, _cut, _edge, _repeat, _remove, _zeros]
