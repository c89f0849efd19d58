"""The plan of a fault run: the same for the same seed, of all kinds, and one that can be carried out."""

from __future__ import annotations

from itertools import pairwise

from tests.faults.faults import INJECTORS
from tests.faults.schedule import POINTS, VARIANTS, plan


def test_a_seed_gives_its_plan_again_and_another_seed_another_one() -> None:
    assert plan(7, 300) == plan(7, 300)
    assert plan(7, 300) != plan(8, 300)


def test_a_full_run_has_every_variant_and_every_named_point() -> None:
    assert all({fault.variant for fault in plan(seed, 300)} == set(VARIANTS) for seed in range(200))
    planned = plan(7, 300)
    assert {fault.variant for fault in planned} == set(VARIANTS)
    assert {int(fault.variant.what) for fault in planned if fault.variant.family == "F2"} == set(range(len(POINTS)))
    assert len({fault.variant.family for fault in planned}) == 13


def test_faults_come_in_order_and_end_within_the_run() -> None:
    planned = plan(7, 3600)
    assert all(one.at_s < other.at_s for one, other in pairwise(planned))
    assert all(0 < fault.at_s + fault.variant.seconds <= 3600 for fault in planned)
    assert {fault.slot for fault in planned} == {0, 1}


def test_only_the_families_asked_for() -> None:
    assert {fault.variant.family for fault in plan(7, 60, families=["F2", "F11"])} == {"F2", "F11"}


def test_every_variant_has_its_injector() -> None:
    assert {(variant.family, variant.name) for variant in VARIANTS} == set(INJECTORS)
