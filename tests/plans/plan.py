"""EXPLAIN, read as a value: which way a statement takes to the jobs, and what it touches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from oban.engines.postgres.statements import PostgresOperation, Statement

PlanMode = Literal["force_custom_plan", "force_generic_plan"]


@dataclass(frozen=True, repr=False)
class Plan:
    """One statement, as it was planned and carried out."""

    statement: str
    explained: dict[str, Any]

    def __repr__(self) -> str:
        return "\n".join([f"{self.statement}:", *map(brief, self.nodes)])

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return list(walk(self.explained["Plan"]))

    @property
    def scans(self) -> list[dict[str, Any]]:
        """The nodes that read jobs. A bitmap's index, which names no table, is read with it."""
        return [node for node in self.nodes if node.get("Relation Name") == "oban_jobs"
                and node["Node Type"] != "ModifyTable"]  # fmt: skip

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def unguided(self) -> list[str]:
        """How jobs are read without looking for any: the whole table, or the whole of an index."""
        return [
            f"{node['Node Type']} {node.get('Index Name', '')}"
            for node in self.nodes
            if (node in self.scans and node["Node Type"] not in GUIDED)
            or ("Index Name" in node and "Index Cond" not in node)
        ]

    @property
    def rows_read(self) -> int:
        """Rows of jobs that were looked at, those thrown away included."""
        return sum(
            node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
            for node in self.scans
        )

    @property
    def pages(self) -> int:
        """Pages touched, in memory or not."""
        root = self.explained["Plan"]
        return int(root["Shared Hit Blocks"] + root["Shared Read Blocks"])

    @property
    def log_records(self) -> int:
        """What was written to the server's log: a change of a row or of an index entry each."""
        return int(self.explained["Plan"]["WAL Records"])

    @property
    def compiled(self) -> bool:
        """Whether its cost seemed high enough to compile it, which takes longer than to run it."""
        return "JIT" in self.explained


def brief(node: dict[str, Any]) -> str:
    shown = ("Relation Name", "Index Name", "Index Cond", "Filter", "Rows Removed by Filter")
    details = "; ".join(str(node[key]) for key in shown if key in node)
    return f"  {node['Node Type']} ({details}) {node['Actual Rows']} x {node['Actual Loops']}"


GUIDED = ("Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Tid Scan")


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from walk(inner)


def plans(
    connection: psycopg.Connection[Any], operation: PostgresOperation[Any], mode: PlanMode
) -> list[Plan]:
    """The plan of each statement of an operation. Nothing that it did is kept."""
    found: list[Plan] = []
    with connection.transaction(force_rollback=True):
        connection.execute(f"set local plan_cache_mode = {mode}".encode())
        steps = operation.steps()
        statement = next(steps)
        try:
            while True:
                found.append(explain(connection, statement))
                with psycopg.RawCursor(connection, row_factory=tuple_row) as cursor:
                    cursor.execute(statement.sql.numbered.encode(), statement.values)
                    statement = steps.send(cursor.fetchall() if cursor.description else [])
        except StopIteration:
            return found


def explain(connection: psycopg.Connection[Any], statement: Statement) -> Plan:
    """Prepare it, as a driver does, and say how it was carried out; then undo it."""
    connection.execute(b"prepare explained as " + statement.sql.numbered.encode())
    try:
        with connection.transaction(force_rollback=True):
            row = connection.execute(explaining("explained", statement)).fetchone()
            assert row is not None
            return Plan(statement.sql.name, row[0][0])
    finally:
        connection.execute("deallocate explained")


def explaining(name: str, statement: Statement) -> sql.Composed:
    """What carries out a prepared statement and tells how."""
    values = sql.SQL(", ").join(map(sql.Literal, statement.values))
    given = sql.SQL("({})").format(values) if statement.values else sql.SQL("")
    query = sql.SQL("explain (analyze, buffers, wal, timing off, format json) execute {}{}")
    return query.format(sql.Identifier(name), given)
