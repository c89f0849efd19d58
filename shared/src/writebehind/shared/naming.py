"""Names that every part must agree on: key text, cache keys, topics."""

from __future__ import annotations

from collections.abc import Sequence

DEAD_LETTER_SUFFIX = ".dlq"
INVALIDATIONS = "invalidations"  # in the place of an entity's name

# "%" starts an escape, "|" separates the parts of a composite key, and braces would end the cache key's hash tag early,
# which on a cluster puts an entry's keys into different slots.
_ESCAPES = str.maketrans({"%": "%25", "|": "%7C", "{": "%7B", "}": "%7D"})


def escape_part(text: str) -> str:
    """Escape one part of a key so that distinct keys have distinct texts, whatever characters they hold."""
    return text.translate(_ESCAPES)


def unescape_part(text: str) -> str:
    """Undo `escape_part`."""
    for char, code in (("|", "%7C"), ("{", "%7B"), ("}", "%7D"), ("%", "%25")):
        text = text.replace(code, char)
    return text


def join_key(parts: Sequence[str]) -> str:
    """The text of a key from its already escaped parts: the Kafka message key, and the end of the cache key."""
    return "|".join(parts)


def cache_key(prefix: str, entity: str, key_text: str) -> str:
    """`PREFIX:{entity:key}`: the hash tag keeps whatever belongs to one entry in one cluster slot."""
    return f"{prefix}:{{{entity}:{key_text}}}"


def cache_keys(prefix: str, entity: str, key_texts: Sequence[str]) -> list[str]:
    """The same for many keys of one entity, without a call for each."""
    start = f"{prefix}:{{{entity}:"
    return [f"{start}{key_text}}}" for key_text in key_texts]


def topic(prefix: str, entity: str) -> str:
    """The topic that carries an entity's writes."""
    return f"{prefix}{entity}"


def invalidations_topic(prefix: str) -> str:
    """The topic of the entries that could not be invalidated because the cache was unreachable."""
    return topic(prefix, INVALIDATIONS)


def invalidations_group(group: str) -> str:
    """The consumer group of flushers that carries invalidations out, beside their own."""
    return f"{group}-{INVALIDATIONS}"


def dead_letter_topic(topic_name: str) -> str:
    """The topic that keeps what the database refused from `topic_name`."""
    return topic_name + DEAD_LETTER_SUFFIX
