"""A DSN for drivers that know only the form of a URL."""

import shlex
from urllib.parse import quote, urlencode


def as_url(dsn: str) -> str:
    """The same place as a URL; `dsn` may be one already, or `host=… dbname=…` as libpq has it."""
    if "://" in dsn:
        return dsn
    parts = dict(each.split("=", 1) for each in shlex.split(dsn))
    database = quote(parts.pop("dbname", ""), safe="")
    return f"postgresql:///{database}?{urlencode(parts, quote_via=quote)}"
