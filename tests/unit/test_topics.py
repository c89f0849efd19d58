"""A topic that exists, compared with the settings: each difference comes with the command that mends it."""

from __future__ import annotations

import pytest

from writebehind.flusher.topics import differences
from writebehind.shared.settings import KafkaSettings

WANTED = {"cleanup.policy": "delete", "min.insync.replicas": "2", "retention.ms": "600000"}
KAFKA = KafkaSettings.model_validate(
    {"bootstrap_servers": "x:1", "partitions": 3, "replication_factor": 3, "min_insync_replicas": 2}
)


def compare(*replicas: int, **actual: str) -> list[tuple[str, str]]:
    there = {**WANTED, **{name.replace("_", "."): value for name, value in actual.items()}}
    return differences(KAFKA, "t", replicas, WANTED, there)


def test_a_topic_as_the_settings_say_has_no_differences() -> None:
    assert compare(3, 3, 3) == []


def test_more_partitions_and_replicas_than_asked_for_are_fine() -> None:
    assert compare(4, 4, 4, 4) == []


def test_missing_partitions_are_added_only_when_nothing_is_in_flight() -> None:
    ((message, fix),) = compare(3, 3)
    assert message == "topic t has 2 partitions, the settings say 3"
    assert "no lag" in fix
    assert fix.endswith("kafka-topics --alter --topic t --partitions 3")


def test_the_partition_with_the_fewest_replicas_counts() -> None:
    ((message, fix),) = compare(3, 2, 3)
    assert message == "topic t has 2 replicas, the settings say 3"
    assert "kafka-reassign-partitions" in fix


@pytest.mark.parametrize("name", ["cleanup.policy", "retention.ms"])
def test_a_setting_that_differs_comes_with_its_command(name: str) -> None:
    ((message, fix),) = compare(3, 3, 3, **{name: "other"})
    assert message == f"topic t: {name} is other, the settings say {WANTED[name]}"
    assert fix == f"kafka-configs --alter --entity-type topics --entity-name t --add-config {name}={WANTED[name]}"


def test_min_insync_replicas_that_cannot_be_met_are_named_with_both_numbers() -> None:
    found = dict(compare(1, 1, 1, min_insync_replicas="2"))
    fix = found["topic t: min.insync.replicas is 2 and there are 1 replicas: no write is acknowledged"]
    assert fix.endswith("--add-config min.insync.replicas=1, or more replicas")


def test_min_insync_replicas_are_not_to_be_raised_beyond_the_replicas() -> None:
    found = dict(compare(1, 1, 1, min_insync_replicas="1"))
    fix = found["topic t: min.insync.replicas is 1, the settings say 2"]
    assert fix.startswith("after there are enough replicas: ")
