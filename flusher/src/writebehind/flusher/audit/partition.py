"""Which partition the producer puts a key's records on: librdkafka's `murmur2_random`. Pure."""

from __future__ import annotations

_M, _SEED, _WORD = 0x5BD1E995, 0x9747B28C, 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The number of a key's partition, of so many."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Austin Appleby's hash as Kafka's clients compute it, unsigned."""
    value = (_SEED ^ len(data)) & _WORD
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _WORD
        k = (k ^ (k >> 24)) * _M & _WORD
        value = (value * _M & _WORD) ^ k
    if tail := data[whole:]:
        value = (value ^ int.from_bytes(tail, "little")) * _M & _WORD
    value = (value ^ (value >> 13)) * _M & _WORD
    return value ^ (value >> 15)
