"""Where log lines go. Every process says so for itself: a worker inherits nothing of its parent."""

from __future__ import annotations

import logging
import sys


def configure_logging() -> None:
    """Log to stderr, from INFO on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
