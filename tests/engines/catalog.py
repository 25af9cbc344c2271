"""What a schema holds, as PostgreSQL's catalogs tell it."""

from typing import Any

import psycopg
from psycopg.rows import tuple_row

Facts = set[tuple[Any, ...]]

#: Locks of this database alone: other tests run beside this one on the same server.
HERE = "database = (select oid from pg_database where datname = current_database())"

#: Everything that can be seen of the objects in a schema. With `{version}` filled by the row
#: versions of the catalogs, two snapshots are equal only if nobody has touched anything between.
OBJECTS = """
with space as (select oid from pg_namespace where nspname = %(prefix)s)
select 'relation', text(relname), text(relkind),
  concat_ws(' ', relpersistence, obj_description(class.oid, 'pg_class')) {class_version}
from pg_class as class where relnamespace = (select oid from space)
union all
select 'column', text(relname), text(attname),
  concat_ws(
    ' ', format_type(atttypid, atttypmod), attnotnull, attidentity,
    col_description(attrelid, attnum),
    (select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = attrelid and adnum = attnum)
  ) {column_version}
from pg_attribute as att join pg_class as class on class.oid = attrelid
where relnamespace = (select oid from space) and attnum > 0 and not attisdropped
union all
select 'index', text(relname), pg_get_indexdef(indexrelid), text(indisvalid) {index_version}
from pg_index as ind join pg_class as class on class.oid = indexrelid
where relnamespace = (select oid from space)
union all
select 'constraint', text(conname), pg_get_constraintdef(con.oid), '' {constraint_version}
from pg_constraint as con where connamespace = (select oid from space)
union all
select 'label', text(enumlabel), text(typname), '' {label_version}
from pg_enum as enum join pg_type as type on type.oid = enumtypid
where typnamespace = (select oid from space)
union all
select 'function', text(proname), prosrc, '' {function_version}
from pg_proc as proc where pronamespace = (select oid from space)
union all
select 'trigger', text(tgname), pg_get_triggerdef(trg.oid), '' {trigger_version}
from pg_trigger as trg join pg_class as class on class.oid = tgrelid
where relnamespace = (select oid from space) and not tgisinternal
"""

SOURCES = {
    "class_version": "class",
    "column_version": "att",
    "index_version": "ind",
    "constraint_version": "con",
    "label_version": "enum",
    "function_version": "proc",
    "trigger_version": "trg",
}


def objects(dsn: str, prefix: str = "public", *, versions: bool = False) -> Facts:
    """The objects of a schema; with `versions` also when each was last touched."""
    places = {
        place: f", concat({source}.xmin, {source}.ctid)" if versions else ""
        for place, source in SOURCES.items()
    }
    statement = OBJECTS.format(**places).encode()
    with psycopg.connect(dsn, row_factory=tuple_row) as connection:
        return set(connection.execute(statement, {"prefix": prefix}).fetchall())


def names(dsn: str, kind: str, prefix: str = "public") -> set[str]:
    return {each[1] for each in objects(dsn, prefix) if each[0] == kind}


def schema_exists(dsn: str, prefix: str) -> bool:
    return bool(value(dsn, "select true from pg_namespace where nspname = %s", prefix))


def value(dsn: str, statement: str, *parameters: object) -> Any:
    """The first column of the first row, or None."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(statement.encode(), parameters).fetchone()
    return row[0] if row else None


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
