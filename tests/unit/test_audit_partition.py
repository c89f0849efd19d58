"""Which partition a key's records are on, as the audit computes it."""

from __future__ import annotations

import pytest

from writebehind.flusher.audit.partition import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_murmur2_is_the_one_of_kafkas_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


def test_a_partition_is_one_of_those_there_are() -> None:
    assert {partition_of(str(n).encode(), 6) for n in range(100)} == set(range(6))
