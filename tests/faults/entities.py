"""What the fault runs write: one entity per promise, and the tables that go with them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final

from writebehind.shared.entity import CacheAside, Entity, Key, Numeric, Sum, WriteBehind, WriteThrough

MODULE: Final = "tests.faults.entities"
#: A ledger has one base-8 digit per increment: 0 is a lost one, 1 is right, more is a doubled one. With 300 decimal
#: digits there is room for this many increments per key.
LEDGER_DIGITS: Final = 300
LEDGER_SLOTS: Final = 330


class Unit(Entity, table="fault_units", strategy=WriteBehind(flush_delay_s=0.1)):
    """W1: rows that are written once."""

    id: Annotated[int, Key]
    body: str | None = None


class Register(Entity, table="fault_registers", strategy=WriteBehind(flush_delay_s=0.05)):
    """W2: the newest of several writers wins."""

    id: Annotated[int, Key]
    value: int | None = None


class Counter(Entity, table="fault_counters", strategy=WriteBehind(flush_delay_s=0.05)):
    """W3: how often, and which increments exactly."""

    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0
    ledger: Annotated[Decimal, Sum, Numeric(LEDGER_DIGITS)] = Decimal(0)


class Account(Entity, table="fault_accounts", strategy=WriteBehind(flush_delay_s=0.05)):
    """W4: what one side gains the other loses, in one write."""

    id: Annotated[int, Key]
    payer: Annotated[int, Sum] = 0
    payee: Annotated[int, Sum] = 0


class Profile(Entity, table="fault_profiles", strategy=WriteBehind(flush_delay_s=0.05)):
    """W5: two processes write different fields of the same rows."""

    id: Annotated[int, Key]
    a: int | None = None
    b: int | None = None
    c: int | None = None
    d: int | None = None


class Visitor(Entity, table="fault_visitors", strategy=WriteBehind(flush_delay_s=0.2, deletes=True)):
    """W6: rows that come and go."""

    id: Annotated[int, Key]
    label: int | None = None
    visits: Annotated[int, Sum] = 0


class Graded(Entity, table="fault_graded", strategy=WriteBehind(flush_delay_s=0.2)):
    """W7: the table refuses marks below zero, which the declaration allows."""

    id: Annotated[int, Key]
    mark: int | None = None


class Appeal(Entity, table="fault_appeals", strategy=WriteBehind(flush_delay_s=0.1, ttl_s=60)):
    """W11: refused while the permit it names is not there, later replayed. Each write has a digit, as in W3."""

    id: Annotated[int, Key]
    label: int | None = None
    permit: int | None = None
    hits: Annotated[int, Sum] = 0
    ledger: Annotated[Decimal, Sum, Numeric(LEDGER_DIGITS)] = Decimal(0)


class Session(Entity, table="fault_sessions", strategy=WriteBehind(flush_delay_s=0.1)):
    """W8: read by its own writer after each write. W12: the note is nobody's but the intruder's, who edits rows."""

    id: Annotated[int, Key]
    step: int | None = None
    note: int | None = None


class Aside(Entity, table="fault_asides", strategy=CacheAside(ttl_s=3600)):
    """W9: read from the cache, written in the database. Registers, ledgers as in W3, and rows that come and go."""

    id: Annotated[int, Key]
    label: int | None = None
    visits: Annotated[int, Sum] = 0
    hits: Annotated[int, Sum] = 0
    ledger: Annotated[Decimal, Sum, Numeric(LEDGER_DIGITS)] = Decimal(0)


class Through(Entity, table="fault_throughs", strategy=WriteThrough(ttl_s=3600)):
    """W10: the same, written to the cache as well."""

    id: Annotated[int, Key]
    label: int | None = None
    visits: Annotated[int, Sum] = 0
    hits: Annotated[int, Sum] = 0
    ledger: Annotated[Decimal, Sum, Numeric(LEDGER_DIGITS)] = Decimal(0)


ENTITIES: Final[tuple[type[Entity], ...]] = (
    *(Unit, Register, Counter, Account, Profile),
    *(Visitor, Graded, Appeal, Session, Aside, Through),
)
REGISTERS: Final = 20  # rows of each direct entity that are there from the start
#: Makes the tables of the direct entities what they are at the start.
FRESH: Final = (
    "TRUNCATE fault_asides, fault_throughs",
    f"INSERT INTO fault_asides (id) SELECT generate_series(0, {REGISTERS - 1})",
    f"INSERT INTO fault_throughs (id) SELECT generate_series(0, {REGISTERS - 1})",
)
_DIRECT: Final = (
    "label bigint, visits bigint NOT NULL DEFAULT 0, hits bigint NOT NULL DEFAULT 0,"
    f" ledger numeric({LEDGER_DIGITS}) NOT NULL DEFAULT 0"
)

DDL: Final = (
    "CREATE TABLE fault_units (id bigint PRIMARY KEY, body text, versions bigint[])",
    "CREATE TABLE fault_registers (id bigint PRIMARY KEY, value bigint, versions bigint[])",
    (
        "CREATE TABLE fault_counters (id bigint PRIMARY KEY, hits bigint NOT NULL DEFAULT 0,"
        f" ledger numeric({LEDGER_DIGITS}) NOT NULL DEFAULT 0)"
    ),
    (
        "CREATE TABLE fault_accounts (id bigint PRIMARY KEY, payer bigint NOT NULL DEFAULT 0,"
        " payee bigint NOT NULL DEFAULT 0)"
    ),
    "CREATE TABLE fault_profiles (id bigint PRIMARY KEY, a bigint, b bigint, c bigint, d bigint, versions bigint[])",
    (
        "CREATE TABLE fault_visitors (id bigint PRIMARY KEY, label bigint, visits bigint NOT NULL DEFAULT 0,"
        " versions bigint[])"
    ),
    "CREATE TABLE fault_graded (id bigint PRIMARY KEY, mark bigint CHECK (mark >= 0), versions bigint[])",
    "CREATE TABLE fault_permits (id bigint PRIMARY KEY)",
    (
        "CREATE TABLE fault_appeals (id bigint PRIMARY KEY, label bigint, permit bigint REFERENCES fault_permits,"
        f" hits bigint NOT NULL DEFAULT 0, ledger numeric({LEDGER_DIGITS}) NOT NULL DEFAULT 0, versions bigint[])"
    ),
    "CREATE TABLE fault_sessions (id bigint PRIMARY KEY, step bigint, note bigint, versions bigint[])",
    f"CREATE TABLE fault_asides (id bigint PRIMARY KEY, {_DIRECT})",
    f"CREATE TABLE fault_throughs (id bigint PRIMARY KEY, {_DIRECT}, version bigint)",
    *FRESH,
)
