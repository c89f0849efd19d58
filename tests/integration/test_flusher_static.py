"""Members with a name of their own, and workers that cannot run as they are configured."""

from __future__ import annotations

from pathlib import Path

from tests.integration.flusher_entities import Counter
from tests.integration.flusher_world import World, world
from writebehind.embedded.isolation import Isolation


def start(w: World, name: str, *arguments: str) -> None:
    w.flusher(
        *arguments, WRITEBEHIND_FLUSHER__INSTANCE_ID=name, WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S="45"
    ).wait_ready()


def owners(w: World) -> dict[int, str]:
    return dict(w.query("SELECT partition, owner FROM {}.progress"))


def test_a_named_member_comes_back_without_a_rebalance(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, partitions=4) as w:
        start(w, "a")
        start(w, "b")
        w.wait(lambda: len(owners(w)) == 4 and len(set(owners(w).values())) == 2, "both to own partitions")
        w.load(Counter, 100)
        w.wait_flushed()
        leaving, staying = w.flushers
        kept = {n: owner for n, owner in owners(w).items() if owner.endswith(f":{staying.pid}")}
        said = staying.log.count("assigned"), staying.log.count("revoked")
        leaving.stop()
        w.load(Counter, 100, seed=2)  # nobody takes over: what is for the first one waits
        start(w, "a")
        w.wait_flushed()
        w.check()
        assert (staying.log.count("assigned"), staying.log.count("revoked")) == said
        assert {n: owner for n, owner in owners(w).items() if n in kept} == kept
        assert {owner.rpartition(":")[2] for n, owner in owners(w).items() if n not in kept} == {
            str(w.flushers[-1].pid)
        }
        for flusher in w.flushers[1:]:
            flusher.stop()


def test_a_second_member_of_the_same_name_ends_the_first(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        start(w, "a")
        w.load(Counter, 100)
        w.wait_flushed()
        w.flushers[0].expected_alive = False
        start(w, "a")
        assert w.flushers[0].exit_code() == 1  # never alive but idle
        assert "fenced by other consumer with same group.instance.id" in w.flushers[0].log
        w.load(Counter, 100, seed=2)
        w.wait_flushed()
        w.check()
        w.flushers[1].stop()


def test_workers_have_names_of_their_own(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, partitions=4) as w:
        start(w, "a", "--workers", "2")
        w.wait(lambda: len(set(owners(w).values())) == 2, "both workers to own partitions")
        w.load(Counter, 100)
        w.wait_flushed()
        described = w.admin.describe_consumer_groups([w.corner.group])[w.corner.group].result(30)
        assert sorted(member.group_instance_id for member in described.members) == ["a-0", "a-1"]
        w.flushers[0].stop()


def test_workers_that_cannot_run_say_why_and_end_with_2(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        w.execute("DROP TABLE counters")
        flusher = w.flusher("--workers", "2")
        assert flusher.exit_code() == 2
        assert "error: " in flusher.log
        assert "counters" in flusher.log
        assert "Traceback" not in flusher.log
