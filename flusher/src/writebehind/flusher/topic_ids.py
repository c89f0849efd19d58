"""A topic's id, which tells it from another one of the same name that was there before."""

from __future__ import annotations

import ctypes
import sys
from importlib.metadata import version
from typing import Any

# It keeps a reference too many to each id that it gives: 240 bytes an answer, one for each batch of a flusher. Another
# release is left alone, in case it does not: test_topic_ids.py tells whether to add it.
_LEAKS = version("confluent-kafka") == "2.16.1"
_OURS = 3  # the description's, the variable's, the argument's


def topic_id(description: Any) -> str:
    """The id in a broker's answer to `describe_topics`."""
    uuid = description.topic_id
    text = str(uuid)
    if _LEAKS and sys.getrefcount(uuid) == _OURS + 1:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(uuid))
    return text
