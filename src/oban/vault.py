"""Arguments that only nodes with the keys can read: encrypted on their way to the table, and
decrypted for the code of their job alone.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from oban.errors import InvalidJob, InvalidOption
from oban.fields import clean_object, encode
from oban.job import Job

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

#: The only argument of a job whose own are encrypted.
SEALED: Final = "encrypted"
#: In `extra` of a job that was decrypted: the job as it is stored.
STORED: Final = "stored"
NOBODY: Final[Collection[str]] = frozenset()
NEEDS_CRYPTOGRAPHY: Final = (
    "encrypted arguments need the package cryptography; install it with: "
    'pip install "oban[encrypted]"'
)
HOW: Final = (
    'make one with: python -c "from cryptography.fernet import Fernet; '
    'print(Fernet.generate_key().decode())"'
)


def is_sealed(args: object) -> bool:
    return isinstance(args, Mapping) and set(args) == {SEALED} and isinstance(args[SEALED], str)


def is_private(job: Job, workers: Collection[str]) -> bool:
    return job.private or (job.worker in workers and not is_sealed(job.args))


class Vault:
    """The keys of a node: the first encrypts, and each decrypts.

    Raises InvalidOption for what is no key; a message never shows one. The tokens are Fernet's:
    AES-128 in CBC mode with an HMAC of SHA-256, and the time at which they were made.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self.keys = tuple(keys)
        if self.keys:
            assert self.cipher

    @cached_property
    def cipher(self) -> "MultiFernet":
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError:
            raise InvalidOption(NEEDS_CRYPTOGRAPHY) from None
        found = []
        for at, key in enumerate(self.keys):
            try:
                found.append(Fernet(key))
            except ValueError:
                raise InvalidOption(
                    f"encryption_keys[{at}] is no key: 32 bytes in URL-safe base64; {HOW}"
                ) from None
        return MultiFernet(found)

    def seal(self, jobs: Sequence[Job], workers: Collection[str] = NOBODY) -> Sequence[Job]:
        """The jobs as they are to be stored: of those that are private, copies that are encrypted.

        So are those of `workers`, however they were made. Raises InvalidJob without a key.
        """
        if not any(is_private(job, workers) for job in jobs):
            return jobs
        return [self.sealed(job) if is_private(job, workers) else job for job in jobs]

    def sealed(self, job: Job) -> Job:
        require_unguessable(job)
        stored = copy(job)
        stored.args = self.encrypt(job.worker, job.args)
        stored.private = False
        return stored

    def encrypt(self, worker: str, args: Mapping[str, Any]) -> dict[str, Any]:
        if not self.keys:
            raise InvalidJob(
                f"the arguments of {worker} are to be encrypted, and this Oban has no key; give "
                f"it encryption_keys, or OBAN_ENCRYPTION_KEYS. {HOW}"
            )
        text = encode(clean_private(worker, args))
        return {SEALED: self.cipher.encrypt(text.encode()).decode("ascii")}

    def changed(
        self, job: Job, changes: Mapping[str, Any], workers: Collection[str] = NOBODY
    ) -> Mapping[str, Any]:
        """New arguments for a job whose own are encrypted, or are to be, are so too."""
        if not isinstance(changes, Mapping) or "args" not in changes:
            return changes
        worker, args = changes.get("worker", job.worker), changes["args"]
        if args == job.args or not (is_sealed(job.args) or worker in workers):
            return changes
        return {**changes, "args": self.encrypt(str(worker), args)}

    def open(self, job: Job) -> Job:
        """The job for its code: a copy, with the arguments in the clear.

        Raises InvalidJob where no key fits, or somebody has changed what is stored.
        """
        from cryptography.fernet import InvalidToken

        try:
            text = self.cipher.decrypt(job.args[SEALED]) if self.keys else None
        except InvalidToken:
            text = None
        if text is None:
            raise InvalidJob(
                f"the arguments of job {job.id} are encrypted, and "
                + (
                    "none of this node's encryption_keys fits"
                    if self.keys
                    else "this node has no encryption_keys"
                )
            )
        opened = copy(job)
        opened.args = json.loads(text)
        opened.extra = {**job.extra, STORED: job}
        return opened


KEYLESS: Final = Vault()


def clean_private(worker: str, args: object) -> dict[str, Any]:
    """The arguments of a job, which no message shows."""
    try:
        return clean_object("args", args)
    except (TypeError, ValueError, AttributeError, RecursionError):
        pass
    # Outside of the handler: nothing is to hang on to what it has caught.
    raise InvalidJob(
        f"args of {worker} is no dict that JSON can hold; it is encrypted, and so not shown"
    )


def require_unguessable(job: Job) -> None:
    """Refuse a unique key over what is secret: whoever guesses it could see that he is right."""
    if job.unique is not None and "args" in job.unique.fields:  # type: ignore[union-attr]  # parsed
        raise InvalidJob(
            f"{job.worker} is encrypted and unique by its args: a key over them would tell who "
            'guesses right; give unique={"fields": …} without args, such as a key of meta'
        )
