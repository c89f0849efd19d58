"""How a cached function's arguments become a key, and what a declaration may not be."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any

import pytest

from writebehind.producer import AsyncClient, DeclarationError, InvalidWrite, cached
from writebehind.producer.loader import KEY_CHARS_MAX, Loader, Options

OPTIONS = Options(ttl_s=1, ttl_jitter=0, negative_ttl_s=1, load_s=1, loads_max=1, early_recompute_beta=0)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Opaque:
    """Nothing that pydantic knows."""


class Size(enum.IntEnum):
    SMALL = 1


def anything(client: object, one: Any, two: Any = None, *rest: Any, **named: Any) -> str:
    raise NotImplementedError


LOADER = Loader(anything, OPTIONS, "anything")
ID = uuid.UUID(int=7)
NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
DIFFERENT: list[Any] = [
    *(1, 1.0, "1", True, None, "None", "null", Decimal(1), Decimal("1.0"), b"1", "31", Colour.RED, "RED", Size.SMALL),
    *(ID, str(ID), NOON, NOON.isoformat(), NOON.date(), [1], [[1]], ["1"], {1}, {"1"}, {1: 2}, {"1": 2}, [1, 2]),
    *([], {}, set(), "", "a|b", "a%7Cb", "}{", {1: Decimal(2)}, {"set": ["1"]}, [1, [2]], [[1], 2]),
]


def test_values_that_differ_have_keys_that_differ() -> None:
    texts = [LOADER.key_text(value) for value in DIFFERENT]
    assert len(set(texts)) == len(DIFFERENT)
    assert not any(set(text) & set("{}|") for text in texts)


def test_the_same_call_has_one_key_however_it_is_written() -> None:
    texts = {LOADER.key_text(1), LOADER.key_text(1, None), LOADER.key_text(one=1), LOADER.key_text(two=None, one=1)}
    assert len(texts) == 1
    assert LOADER.key_text({1: 2, 3: 4}) == LOADER.key_text({3: 4, 1: 2})
    assert LOADER.key_text({3, 1, 2}) == LOADER.key_text(frozenset([1, 2, 3]))
    assert len({LOADER.key_text(1, 2), LOADER.key_text(1, 2, 3), LOADER.key_text(1, 2, x=3), LOADER.key_text(1)}) == 4


def test_long_arguments_are_hashed() -> None:
    long, other = LOADER.key_text("x" * 5_000), LOADER.key_text("x" * 4_999)
    assert long != other
    assert len(long) == len(other) <= KEY_CHARS_MAX


def test_an_argument_without_a_stable_text_is_refused() -> None:
    with pytest.raises(InvalidWrite, match=r"anything\.two: cannot be part of a cache key.*\(got object\)"):
        LOADER.key_text(1, object())
    with pytest.raises(TypeError):
        LOADER.key_text()


def test_two_functions_do_not_share_results() -> None:
    assert Loader(anything, OPTIONS, None).name == "@tests.unit.test_cached_keys.anything" != LOADER.name


@pytest.mark.parametrize(
    "options",
    [{"ttl_s": 0}, {"negative_ttl_s": 0}, {"load_s": -1}, {"ttl_jitter": 1}, {"loads_max": 0}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"ttl_s": 1, **options}
    with pytest.raises(DeclarationError, match=next(iter(options))):
        cached(**given)


def test_a_function_must_say_what_it_gives_and_take_the_client() -> None:
    with pytest.raises(DeclarationError, match="return annotation"):

        @cached(ttl_s=1)
        async def silent(client: AsyncClient):  # type: ignore[no-untyped-def]  # what is tested
            raise NotImplementedError

    with pytest.raises(DeclarationError, match="first parameter"):
        Loader(lambda: 1, OPTIONS, None)


def test_a_result_that_json_cannot_hold_is_a_declaration_error() -> None:
    def opaque(client: object) -> Opaque:
        raise NotImplementedError

    with pytest.raises(DeclarationError, match="cannot be kept as JSON"):
        Loader(opaque, OPTIONS, None).encode(1)


def test_a_result_of_another_type_is_refused() -> None:
    with pytest.raises(InvalidWrite, match=r"not of the type.*\(got list\)"):
        LOADER.encode([1])
    with pytest.raises(ValueError, match="another type"):
        LOADER.decode({"v": "[1]"})
