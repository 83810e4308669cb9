"""Errors that a person can mend: each says what was wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """Input that cannot be used as it is; the message is for the person who gave it."""


def together(errors: Sequence[InputError]) -> InputError:
    """Return one error for several, so that all can be mended at once: a line each; a single one stays as it is."""
    return errors[0] if len(errors) == 1 else InputError("\n".join(map(str, errors)))


class TableError(InputError):
    """A value of an interchange table that breaks the table's rules.

    `row` is the 1-based data row (a CSV header does not count), None where the whole column or table is meant.
    """

    def __init__(self, table: str, column: str | None, row: int | None, problem: str, source: str | None = None) -> None:
        self.table, self.column, self.row, self.problem, self.source = table, column, row, problem, source
        where = [f"table {table}"]
        if column is not None:
            where.append(f"column {column}")
        if row is not None:
            where.append(f"row {row:,}")
        prefix = f"{source}: " if source else ""
        super().__init__(f"{prefix}{', '.join(where)}: {problem}")

    def __reduce__(self) -> tuple[type[TableError], tuple[str, str | None, int | None, str, str | None]]:
        return TableError, (self.table, self.column, self.row, self.problem, self.source)
