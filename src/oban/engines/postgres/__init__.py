"""The engine for PostgreSQL 14 and later."""

from oban.engines.postgres.engine import PostgresEngine

__all__ = ["PostgresEngine"]
