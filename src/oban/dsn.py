"""Connection strings: whether PostgreSQL can read one, and how one is shown."""

import re
from typing import Final
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from oban.errors import InvalidOption

#: The DSN that means the PostgreSQL which comes with the `embedded` extra.
EMBEDDED: Final = "embedded"

MASK: Final = "***"
SCHEMES: Final = ("postgresql://", "postgres://")
#: The parameters of libpq that are secrets.
SECRETS: Final = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)


def mask_dsn(dsn: str) -> str:
    """Return `dsn` as it may be shown: every password in it is `***`.

    All of it is when PostgreSQL cannot read it, or may read it otherwise than its writer meant:
    then nobody can tell which part is the password.
    """
    if dsn == EMBEDDED:
        return dsn
    given = read_dsn(dsn)
    if given is None:
        return MASK
    expected = {key: MASK if key in SECRETS else value for key, value in given.items()}
    masked = mask_uri(dsn) if dsn.startswith(SCHEMES) else make_conninfo("", **expected)
    # What is shown is what libpq reads in the original, with nothing but the secrets replaced.
    return masked if masked is not None and read_dsn(masked) == expected else MASK


def mask_uri(uri: str) -> str | None:
    """Mask a URI in place; None when an unquoted character makes its parts uncertain."""
    scheme, _, body = uri.partition("://")
    login, at, rest = body.rpartition("@")
    user, colon, _ = login.partition(":")
    # Each of these in a password ends it for libpq, which takes the tail of it for something else.
    if "@" in login or "/" in login or "?" in user:
        return None
    place, mark, query = rest.partition("?")
    login = f"{user}:{MASK}" if colon else user
    return f"{scheme}://{login}{at}{place}{mark}{'&'.join(map(mask_pair, query.split('&')))}"


def mask_pair(pair: str) -> str:
    key, equals, _ = pair.partition("=")
    return f"{key}{equals}{MASK}" if unquote(key) in SECRETS else pair


def check_dsn(key: str, dsn: str) -> None:
    """Raise InvalidOption for what PostgreSQL cannot read. The message quotes none of it."""
    if read_dsn(dsn) is not None:
        return
    if dsn == EMBEDDED:
        advice = "in code, the embedded PostgreSQL is oban.embedded.start().dsn"
    elif driver := re.match(r"postgres(?:ql)?\+\w+://", dsn):
        advice = f"write postgresql:// in place of {driver[0]}, which is SQLAlchemy's form"
    else:
        advice = "in a URI, write special characters of the password as %XX (@ is %40)"
    raise InvalidOption(
        f"{key} is not a connection string that PostgreSQL can read; it is like "
        f"postgresql://user:password@host:5432/database or host=... dbname=...; {advice}"
    )


def read_dsn(dsn: str) -> dict[str, str | int | None] | None:
    """The parameters in a connection string, or None when it is none."""
    try:
        return dict(conninfo_to_dict(dsn)) if "\0" not in dsn else None
    except (psycopg.Error, UnicodeError):
        return None
