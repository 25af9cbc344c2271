"""What a driver's error means for the statement that was sent."""

import select
from collections.abc import Callable
from typing import Any, Final

import psycopg

from oban import errors

LOCK_TIMEOUT: Final = "55P03"
CANCELED: Final = "57014"
#: Why somebody has waited in vain for a unique key.
BUSY: Final = "another transaction has inserted or moved a job of that key and not ended yet"
CONTENDED: Final = frozenset({"40001", "40P01", LOCK_TIMEOUT, CANCELED})
#: The session is of no use any more, and the statement was not carried out: the server said so
#: itself. 25006 is a server that became a read-only standby.
UNAVAILABLE: Final = frozenset({"25006", "53300", "57P01", "57P03", "57P05"})
#: Of these, what it says to a session that it ends while that is idle.
ENDED: Final = frozenset({"57P01", "57P05"})
MISSING_OBJECTS: Final = frozenset({"42P01", "3F000", "42703", "42704"})
#: Values, constraints, limits, and what somebody's triggers and functions raise.
REFUSED_CLASSES: Final = ("09", "22", "23", "38", "39", "44", "54", "P0")


def translate(
    error: Exception,
    *,
    broken: bool,
    sent: bool,
    unique_keys: Callable[[], str] | None = None,
    is_timed: bool = False,
) -> Exception:
    """Return the error of ours that says what `error` means.

    `broken` says that the connection cannot be used any more, `sent` that a change may have
    reached the server by then, `unique_keys` what else than a row it may have waited for,
    `is_timed` that the server was asked to end it after a while.
    """
    if isinstance(error, UnicodeEncodeError):
        return errors.DataRefused(f"text that is not valid Unicode was refused: {error}")
    if not isinstance(error, psycopg.Error):
        return error
    state = error.sqlstate or ""
    text = str(error).strip() or type(error).__name__
    if state in UNAVAILABLE:
        return errors.DatabaseUnavailable(f"the database is not available: {text}")
    if state == LOCK_TIMEOUT and unique_keys:
        return errors.UniqueKeyBusy(f"{unique_keys()}: {BUSY}: {text}")
    if state == CANCELED and is_timed:
        return errors.TooSlow(f"it took too long, and was ended: {text}")
    if state in CONTENDED:
        return errors.Contended(f"the statement gave way to others: {text}")
    if state in MISSING_OBJECTS:
        return errors.SchemaError(
            f"the tables are missing or too old ({text}); run `oban install`, "
            "or `oban migrate` where they exist"
        )
    if broken:
        if sent:
            return errors.OutcomeUnknown(
                f"the connection broke before the answer came ({text}); "
                "the change may have been made or not: look before you repeat it"
            )
        return errors.DatabaseUnavailable(f"the connection is lost: {text}")
    if state.startswith(REFUSED_CLASSES) or isinstance(error, psycopg.DataError):
        return errors.DataRefused(f"the database refused a value: {text}")
    return errors.DatabaseError(f"the database refused the statement: {text}")


def ended_by_server(error: BaseException) -> bool:
    """Whether the server ended the session before it came to the statement, and said so."""
    return (
        isinstance(error, errors.DatabaseUnavailable)
        and isinstance(error.__cause__, psycopg.Error)
        and error.__cause__.sqlstate in ENDED
    )


def is_lost(connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]") -> bool:
    """Whether an idle connection is already dead, found out without a round trip.

    A server that went away has sent its farewell or closed the socket, and both can be read.
    Knowing it before a change is sent is what keeps `OutcomeUnknown` rare.
    """
    if connection.closed:
        return True
    handle = connection.pgconn
    poll = select.poll()
    poll.register(handle.socket, select.POLLIN)
    for _ in ("the farewell", "the end of the stream"):
        if not poll.poll(0):
            return False
        try:
            handle.consume_input()
        except psycopg.OperationalError:
            return True
        if handle.status != psycopg.pq.ConnStatus.OK:
            return True
    return False
