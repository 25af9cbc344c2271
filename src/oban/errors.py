"""Every error this package raises, in one tree.

    ObanError
    ├── InvalidJob              (ValueError)    a job's field has a value it cannot have
    ├── InvalidOption           (ValueError)    an option of Oban or a queue is wrong
    │   └── ConfigurationError                  the same, found in a file or the environment
    ├── UnsupportedConnection   (TypeError)     `conn=` was given something we cannot use
    ├── InstanceNotFound        (LookupError)   no Oban runs under that name
    ├── UnknownWorker           (LookupError)   a job names a worker this process does not have
    ├── SyncInsideLoop          (RuntimeError)  a `_sync` call on a thread with a running loop
    ├── NotStarted              (RuntimeError)  a call that needs a started Oban
    ├── ProcessDied             (RuntimeError)  the child process of a job ended before the job did
    ├── RaisedInProcess         (RuntimeError)  what a job raised in a child process, as told there
    ├── SchemaError                             tables missing, too old, or made by a server too old
    ├── EmbeddedError                           the embedded PostgreSQL cannot be had or started
    └── DatabaseError                           the database did not do what was asked
        ├── DatabaseUnavailable                 it could not be reached; nothing was done
        ├── OutcomeUnknown                      the connection broke while a change was on its way
        ├── DataRefused         (ValueError)    it does not accept one of the values sent
        ├── TooSlow                             a question took longer than it was given
        └── Contended                           locks, deadlocks or other writers were in the way
            └── UniqueKeyBusy                   another transaction kept hold of a unique key

A message says what was got, what is accepted and what to do about it.
"""


class ObanError(Exception):
    """The root: catch it to catch everything raised on purpose by this package."""


class InvalidJob(ObanError, ValueError):
    pass


class InvalidOption(ObanError, ValueError):
    pass


class ConfigurationError(InvalidOption):
    pass


class UnsupportedConnection(ObanError, TypeError):
    pass


class InstanceNotFound(ObanError, LookupError):
    pass


class UnknownWorker(ObanError, LookupError):
    pass


class SyncInsideLoop(ObanError, RuntimeError):
    pass


class NotStarted(ObanError, RuntimeError):
    pass


class ProcessDied(ObanError, RuntimeError):
    pass


class RaisedInProcess(ObanError, RuntimeError):
    """The text is that of the error there; `told` is its message, type and traceback."""

    def __init__(self, told: dict[str, str], rule: str | None = None) -> None:
        super().__init__(f"{told['error_type']}: {told['error_message']}")
        self.told = told
        #: The name of the class by which its worker's policy decides, None where it does not.
        self.rule = rule


class SchemaError(ObanError):
    pass


class EmbeddedError(ObanError):
    pass


class DatabaseError(ObanError):
    pass


class DatabaseUnavailable(DatabaseError):
    pass


class OutcomeUnknown(DatabaseError):
    """The change was sent, and the connection broke before the answer came.

    It may have been made or not. It is never sent again on its own: look first, then decide.
    """


class DataRefused(DatabaseError, ValueError):
    pass


class TooSlow(DatabaseError):
    pass


class Contended(DatabaseError):
    pass


class UniqueKeyBusy(Contended):
    """Nothing was inserted: a job's like was being inserted, or moved, all the time."""
