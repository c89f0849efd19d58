"""What an error of the database means for the caller of a write. Pure; by SQLSTATE and type, never by text."""

from __future__ import annotations

import psycopg

from writebehind.shared.declaration import Declaration
from writebehind.shared.errors import ConfigurationError, NotApplied, Refused, Unknown, WritebehindError

# Classes of SQLSTATE. Data, constraints, check options, limits, and what triggers raise to refuse a row.
_DATA = frozenset({"20", "22", "23", "38", "44", "54", "P0"})
# No such table, column, database, schema or privilege.
_MEND = frozenset({"0A", "28", "3D", "3F", "42"})
# The connection ended: what the server did before that is not known.
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "40003"})


def translated(declaration: Declaration, error: Exception, *, sent: bool) -> WritebehindError:
    """The error to raise instead. `sent`: the statement that commits (or COMMIT itself) was on its way."""
    name = declaration.cls.__name__
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    # 1. The server said no: a transaction that failed is rolled back.
    if isinstance(error, psycopg.Error) and state is not None and state[:2] != "08" and state not in _LOST:
        if state[:2] in _DATA:
            constraint = error.diag.constraint_name
            which = f"constraint {constraint}, SQLSTATE {state}" if constraint else f"SQLSTATE {state}"
            return Refused(f"{name}: the database refuses the write ({which}); nothing was written", state, constraint)
        if state[:2] in _MEND:
            return ConfigurationError(
                f"{name}: cannot write table {declaration.table} (SQLSTATE {state}); compare it with the declaration: "
                "`writebehind migrate --print` shows what is missing"
            )
        return NotApplied(f"{name}: the database could not take the write now (SQLSTATE {state}); nothing was written")
    # 2. psycopg could not make the statement.
    if isinstance(error, psycopg.DataError | psycopg.ProgrammingError):
        return Refused(f"{name}: a value cannot be sent to the database ({type(error).__name__})")
    # 3. No answer.
    kind = state or type(error).__name__
    if sent:
        return Unknown(f"{name}: the database did not answer the write ({kind}); it is applied once or not at all")
    return NotApplied(f"{name}: the database cannot be reached ({kind}); nothing was written")
