"""`writebehind letters list|show|discard|export|import` on real servers."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from tests.integration.flusher_entities import Counter, Strict
from tests.integration.flusher_process import TIMEOUT_S, run_command, wait_until
from tests.integration.letters_world import Letters, letters
from writebehind.embedded.isolation import Isolation
from writebehind.shared import naming
from writebehind.shared.letter import UNREADABLE, Cause

UNREAD = Cause(
    UNREADABLE,
    "writebehind.BadRecord",
    "no value",
    None,
    None,
    None,
    1,
    "2026-03-01T00:00:00+00:00",
    "2026-03-01T00:00:00+00:00",
)


def listed(made: Letters, *arguments: str) -> list[str]:
    return sorted(line["letter"] for line in made.run("list", "--json", *arguments).lines)


def test_list_shows_each_letter_once_and_filters(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter, Strict) as made:
        assert made.run("list").code == 0
        first, second = made.put(Counter, 1, hits=1), made.put(Counter, 2, hits=1)
        unread = made.put(Strict, 1, amount=1, cause=UNREAD)
        made.again(Counter, first, key=b"1", value=b"other")
        made.again(Counter, second, key=b"2", value=b"other")
        void = made.put(Counter, 9, hits=1, row=False)
        lost = made.put(Counter, 3, hits=1, message=False)
        made.world.producer.produce(naming.dead_letter_topic(made.world.topic(Counter)), b"no letter", b"k")
        ran = made.run("list", "--json")
        assert ran.code == 1
        assert "has 1 messages that are not letters" in ran.err
        found = {line["letter"]: line for line in ran.lines}
        assert len(ran.lines) == len(found) == 4
        assert found[first] | {"key": "1", "sqlstate": "23514", "state": "refused", "contested": True} == found[first]
        assert found[lost]["message"] is None
        assert listed(made, "--all") == sorted([first, second, unread, void, lost])
        assert listed(made, "--state", "void") == [void]
        assert listed(made, "--entity", "strict") == [unread]
        assert listed(made, "--reason", "badrecord") == listed(made, "--since", "2026-02-01") == [unread]
        assert listed(made, "--reason", "23") == listed(made, "--until", "2026-02-01") == sorted([first, second])
        assert listed(made, "--key", "2") == listed(made, second) == [second]
        table = made.run("list").out
        assert "3 open" not in table
        assert "4 open" in table
        assert first in table
        assert made.run("list", "--state", "nonsense").code == 2


def test_names_that_no_letter_can_have_are_errors_and_change_nothing(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter, Strict) as made:
        place, strict = made.put(Counter, 1, hits=1), made.put(Strict, 1, amount=1)
        made.world.entities = (Counter,)  # letters of an entity that is declared no more can still be asked for
        assert listed(made, "--entity", "strict") == [strict]
        for command in (["list"], ["replay", "--apply"], ["discard", "--yes"], ["export"]):
            typo = made.run(*command, "--entity", "counter", "--entity", "Counter")
            assert (typo.code, typo.out) == (2, "")
            assert "'Counter' is no write-behind entity" in typo.err
            assert "those are: counter, strict" in typo.err
            elsewhere = made.run(*command, place, place.replace("/", ".dlq/", 1))
            assert (elsewhere.code, elsewhere.out) == (2, "")
            assert f"no letter is named {made.world.topic(Counter)}.dlq/…" in elsewhere.err
        assert made.run("list", place, "--entity", "strict").code == 2
        assert made.run("list", "--reason", "CheckVoilation").code == 2
        file = tmp_path / "letters.ndjson"
        file.write_text("an older export")
        assert made.run("export", "--output", str(file), "--entity", "typo").code == 2
        assert file.read_text() == "an older export"
        assert set(made.states().values()) == {("refused", 0)}
        assert made.run("replay", place, "--entity", "counter", "--apply", "--json").summary == {"applied": 1}


def test_show_hides_what_came_with_the_record_unless_asked(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        place = made.put(Counter, 1, note="s3cret note", own=[("trace", b"s3cret header")])
        ran = made.run("show", place)
        assert ran.code == 0
        assert "__connect.errors.topic" in ran.out
        assert "s3cret" not in ran.out
        full: dict[str, Any] = made.run("show", place, "--show-values", "--json").lines[0]
        assert full["fields"] == {"note": "s3cret note"}
        assert ["trace", "s3cret header"] in full["headers"]
        missing = made.run("show", f"{made.world.topic(Counter)}/0/999")
        assert (missing.code, missing.out) == (2, "")


def test_discard_asks_records_and_keeps_the_message(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        one, two = made.put(Counter, 1, hits=1), made.put(Counter, 2, hits=1)
        lost = made.put(Counter, 3, hits=1, message=False)
        refused = made.run("discard", one)
        assert refused.code == 2
        assert "--yes" in refused.err
        assert made.count("discarded") == 0
        assert made.run("discard", one, lost, "--yes", "--json").lines[0]["discarded"] == 2
        assert made.run("discard", one, "--yes", "--json").lines[0]["discarded"] == 0
        found = {line["letter"]: line for line in made.run("list", "--json").lines}
        assert found.keys() == {one, two}, "a letter that is closed and has no message is history"
        assert found[one]["state"] == "discarded"
        assert found[one]["changed_by"].startswith("discard ")
        assert found[one]["message"] is not None
        assert made.run("replay", "--apply", "--json").summary == {"applied": 1}
        assert made.world.rows(Counter).keys() == {(2,)}
        assert made.run("list").code == 0


def lose_messages(made: Letters) -> None:
    """The topic loses all its letters, as it does when its retention is over."""
    admin = AdminClient({"bootstrap.servers": made.world.corner.bootstrap_servers})
    name = naming.dead_letter_topic(made.world.topic(Counter))
    admin.delete_topics([name])[name].result(TIMEOUT_S)
    wait_until(lambda: name not in admin.list_topics(timeout=TIMEOUT_S).topics, "the topic to be gone")
    paths = [f"{cls.__module__}:{cls.__name__}" for cls in made.world.entities]
    run_command(made.world.env_of("migrator"), "migrate", *[part for path in paths for part in ("--entities", path)])


def test_letters_that_the_topic_lost_come_back_from_an_export(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        for key in range(10):
            made.put(Counter, key, hits=1, note=f"note {key}", own=[("trace", b"\xff\x00")])
        file = tmp_path / "letters.ndjson"
        assert made.run("export", "--output", str(file)).code == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        # Partitions are read side by side: the order of letters is not fixed.
        assert sorted(file.read_text().splitlines()) == sorted(made.run("export").out.splitlines())
        assert made.run("import", str(file), "--json").summary == {"present": 10}
        lose_messages(made)
        gone = made.run("replay", "--apply", "--json")
        assert (gone.code, gone.summary) == (1, {"rejected": 10})
        # Straight from the file, some of them; and back into the topic, all of them.
        assert made.run("replay", "--apply", "--json", "--from", str(file), "--max", "4").summary == {"applied": 4}
        assert made.run("import", str(file), "--json").summary == {"restored": 10}
        assert made.run("import", str(file), "--json").summary == {"present": 10}
        assert sorted(made.run("export").out.splitlines()) == sorted(
            line.replace('"refused"', '"applied"') if number < 4 else line
            for number, line in enumerate(file.read_text().splitlines())
        )
        assert made.run("replay", "--apply", "--json").summary == {"applied": 6}
        assert made.run("replay", "--apply", "--json", "--from", str(file)).summary == {}
        assert made.world.rows(Counter) == {
            (key,): {"hits": 1, "high": None, "low": None, "note": f"note {key}"} for key in range(10)
        }


def test_an_import_makes_no_letter_that_was_none(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        place = made.put(Counter, 1, hits=1)
        made.put(Counter, 2, hits=1, row=False)
        line = made.run("export", place).out
        void = made.run("list", "--all", "--json", "--state", "void").lines[0]["letter"]
        raw = json.loads(line)
        changed = {**raw, "value": base64.b64encode(b"other").decode()}
        file = tmp_path / "letters.ndjson"
        file.write_text(json.dumps(changed) + "\nnonsense\n\n" + json.dumps({**raw, "key": "é"}) + "\n")
        ran = made.run("import", str(file), "--json")
        assert (ran.code, ran.summary) == (1, {"refused": 3})
        reasons = [found["reason"] for found in ran.lines if "reason" in found]
        assert ["checksum" in reasons[0], "line 2" in reasons[1], "base64" in reasons[2]] == [True] * 3
        assert made.run("replay", "--apply", "--json", "--from", str(file)).code == 1
        assert made.world.rows(Counter) == {}
        # Letters that are whole, of places where nothing was skipped or where the topic holds something else.
        other = made.put(Counter, 1, hits=100)
        rows = f'"{made.world.corner.bookkeeping_schema}".letter'
        exported = made.run("export", other).out
        made.world.execute(f"""DELETE FROM {rows} WHERE "offset" = {other.rsplit("/", 1)[1]}""")
        file.write_text(exported)
        ran = made.run("import", str(file), "--json")
        assert (ran.code, ran.lines[0]["reason"]) == (1, "no record was skipped at this letter's place")
        void_replay = made.run("replay", "--apply", "--json", "--from", str(file))
        assert (void_replay.code, void_replay.summary) == (1, {"rejected": 1})
        assert void != other
