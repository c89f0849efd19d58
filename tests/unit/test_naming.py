"""Names that several parts derive on their own and must derive alike."""

from __future__ import annotations

import pytest

from writebehind.shared import naming


def test_names_are_as_documented() -> None:
    assert naming.cache_key("wb", "player", "7") == "wb:{player:7}"
    assert naming.cache_keys("wb", "player", ["7", "8"]) == ["wb:{player:7}", "wb:{player:8}"]
    assert naming.topic("writebehind.", "player") == "writebehind.player"
    assert naming.dead_letter_topic("writebehind.player") == "writebehind.player.dlq"
    assert naming.join_key(["a", "b"]) == "a|b"


@pytest.mark.parametrize(
    ("part", "escaped"),
    [
        ("plain é", "plain é"),
        ("a|b", "a%7Cb"),
        ("%", "%25"),
        ("%7C", "%257C"),
        ("{x}", "%7Bx%7D"),
        ("", ""),
        ("%25|", "%2525%7C"),
    ],
)
def test_a_part_is_escaped_and_reads_back(part: str, escaped: str) -> None:
    assert naming.escape_part(part) == escaped
    assert naming.unescape_part(escaped) == part


def test_the_hash_tag_of_a_cache_key_is_all_of_entity_and_key() -> None:
    key = naming.cache_key("wb", "player", naming.escape_part("}{"))

    assert key[key.index("{") + 1 : key.index("}")] == "player:%7D%7B"
    assert key.endswith("}")
    assert key.count("{") == key.count("}") == 1
