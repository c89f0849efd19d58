"""The scripts' arithmetic on decimal text, in the cache's own Lua, against Python's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib.resources import files
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.everything import MOMENT
from writebehind.embedded.isolation import Isolation
from writebehind.shared import kinds
from writebehind.shared.fold import exact_sum
from writebehind.shared.kinds import Kind

DECIMAL_LUA = (files("writebehind.shared") / "lua" / "decimal.lua").read_text()
# All pairs of a call in one script: a round trip each would be most of the time.
PROGRAM = """
local out = {}
for at, pair in ipairs(cmsgpack.unpack(ARGV[1])) do
  local a, b, order = pair[1], pair[2], pair[3]
  if order == 'add' then out[at] = add(a, b)
  elseif order == 'negate' then out[at] = add(a, negate(b))
  else out[at] = less(a, b, order) and '1' or '0' end
end
return out
"""

Pair = tuple[str, str, str]
Run = Callable[[list[Pair]], list[str]]
EDGES = [0, 1, -1, 10**15 - 1, 10**15, -(10**15), 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
INTS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES) | st.integers(-20, 20)
PRICES = st.decimals(-(10**20), 10**20, places=4) | st.sampled_from(["0.00", "-0.00", "0.1", "-0.1", "99999.99"]).map(
    Decimal
)


@pytest.fixture
def run(writebehind_isolated: Isolation) -> Iterator[Run]:
    with redis.Redis.from_url(writebehind_isolated.cache_url, decode_responses=True) as client:
        script = client.register_script(DECIMAL_LUA + PROGRAM)

        def call(pairs: list[Pair]) -> list[str]:
            answers: Any = script(args=[msgspec.msgpack.encode(pairs)])
            return [str(answer) for answer in answers]

        yield call


def test_sums_are_exact(run: Run) -> None:
    kind = kinds.numeric()

    @given(
        st.lists(st.tuples(INTS, INTS) | st.tuples(PRICES, PRICES) | st.tuples(INTS, PRICES), min_size=1, max_size=30)
    )
    def exact(pairs: list[tuple[Any, Any]]) -> None:
        texts = [(kind.to_cache(kind.check(a)), kind.to_cache(kind.check(b))) for a, b in pairs]
        sums = run([(a, b, "add") for a, b in texts])
        differences = run([(a, b, "negate") for a, b in texts])
        for (a, b), total, difference in zip(pairs, sums, differences, strict=True):
            left, right = Decimal(a), Decimal(b)
            assert Decimal(total) == exact_sum([left, right])
            assert Decimal(difference) == exact_sum([left, right.copy_negate()])

    exact()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (kinds.integer("int8"), INTS),
        (kinds.numeric(), PRICES | INTS),
        (kinds.FLOAT, st.floats(allow_nan=False, allow_infinity=False)),
        (kinds.TIMESTAMP, MOMENT),
        (kinds.DATE, st.dates()),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)
def test_the_cache_orders_values_as_python_does(run: Run, kind: Kind, values: st.SearchStrategy[Any]) -> None:
    @given(st.lists(st.tuples(values, values), min_size=1, max_size=30))
    def alike(pairs: list[tuple[Any, Any]]) -> None:
        checked = [(kind.check(a), kind.check(b)) for a, b in pairs]
        answers = run([(kind.to_cache(a), kind.to_cache(b), kind.order.value) for a, b in checked])
        assert answers == ["1" if a < b else "0" for a, b in checked]

    alike()


def test_a_float_is_the_same_number_in_the_cache(run: Run) -> None:
    values = [0.1, 1e308, 5e-324, -0.0, 1 / 3, math.pi, 1e22, 123456789012345680.0]

    texts = [kinds.FLOAT.to_cache(value) for value in values]

    # Neither less nor greater than itself and its neighbours told apart.
    assert run([(text, text, "f") for text in texts]) == ["0"] * len(values)
    above = [kinds.FLOAT.to_cache(math.nextafter(value, math.inf)) for value in values]
    assert run([(text, other, "f") for text, other in zip(texts, above, strict=True)]) == ["1"] * len(values)
