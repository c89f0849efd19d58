"""Renews pins.json after a change of versions.py: `python -m writebehind.embedded.pin`. For maintainers only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jgo

from writebehind.embedded import versions


def _hashed(coordinate: str, *, transitive: bool) -> dict[str, str]:
    """Coordinate to SHA-256 of the jar, and of every jar it needs at run time if `transitive`."""
    artifacts = jgo.resolve(coordinate)
    return {
        f"{one.groupId}:{one.artifactId}:{one.version}": hashlib.sha256(one.resolve().read_bytes()).hexdigest()
        for one in (artifacts if transitive else artifacts[:1])
    }


def main() -> None:
    """Resolve the coordinates of versions.py and write pins.json beside this file; read the diff before committing."""
    # Alone, each: resolved together, log4j's own table of versions would pull Kafka's client jar back to 3.9.
    kafka = _hashed(versions.KAFKA_COORDINATE, transitive=True)
    logging = _hashed(versions.LOGGING_COORDINATE, transitive=False)
    postgres = _hashed(versions.POSTGRES_COORDINATE, transitive=False)
    text = json.dumps({"kafka": kafka | logging, "postgres": postgres}, indent=2)
    Path(__file__).with_name("pins.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
