"""Ids of topics: a flusher asks for them all day long, so an answer must leave nothing behind."""

from __future__ import annotations

import gc

from confluent_kafka import TopicCollection, Uuid
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from writebehind.embedded import Isolation
from writebehind.flusher.topic_ids import topic_id

ANSWERS = 50


def test_an_answer_leaves_nothing_behind(writebehind_isolated: Isolation) -> None:
    admin = AdminClient({"bootstrap.servers": writebehind_isolated.bootstrap_servers})
    topic = f"{writebehind_isolated.topic_prefix}ids"
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)

    def ask() -> str:
        return topic_id(admin.describe_topics(TopicCollection([topic]), request_timeout=30)[topic].result(60))

    first = ask()
    before = kept()
    assert {ask() for _ in range(ANSWERS)} == {first}
    assert kept() - before < ANSWERS, "the binding keeps what it gives: see _LEAKS of topic_ids.py"


def kept() -> int:
    """Ids that are in memory."""
    return sum(type(one) is Uuid for one in gc.get_objects())
