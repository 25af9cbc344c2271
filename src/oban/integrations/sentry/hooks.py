"""Hooks that capture what jobs raise."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import sentry_sdk
from sentry_sdk.scope import add_global_event_processor
from sentry_sdk.utils import event_from_exception

from oban.errors import InvalidOption
from oban.job import Job
from oban.outcome import RateLimited
from oban.vault import is_sealed
from oban.worker import worker_named
from oban.worker.hooks import Hooks

When = Literal["last", "every"]

WHEN: Final = ("last", "every")


class SentryHooks(Hooks):
    """Tells Sentry what jobs raise, each in a scope of its own with the job's tags.

    With `when="last"` only what discards the job is told: at its last attempt, or by `discard_on`.
    With `"every"` each attempt that raises is. Neither arguments nor local variables, in which they
    stand as well, are sent unless `args` is true; those that are encrypted never are.
    """

    def __init__(self, *, when: When = "last", args: bool = False) -> None:
        if when not in WHEN:
            raise InvalidOption(f"when is {when!r:.40}; it is {' or '.join(WHEN)}")
        if not isinstance(args, bool):  # "false", from somebody's environment
            raise InvalidOption(f"args is {args!r:.40}; it is True or False")
        self.when = when
        self.args = args

    async def around(self, job: Job, call_next: Callable[[], Awaitable[Any]], /) -> Any:
        with sentry_sdk.isolation_scope() as scope:
            self.describe(scope, job)
            try:
                return await call_next()
            except RateLimited:
                raise
            except Exception as error:
                # Here and not in `on_error`, which comes after the scope and its breadcrumbs.
                if self.when == "every" or discards(job, error):
                    self.capture(job, error)
                raise

    def describe(self, scope: sentry_sdk.Scope, job: Job) -> None:
        scope.set_transaction_name(job.worker, source="task")
        scope.set_tag("oban.worker", job.worker)
        scope.set_tag("oban.queue", job.queue)
        told: dict[str, Any] = {
            "id": job.id,
            "worker": job.worker,
            "queue": job.queue,
            "attempt": job.attempt,
            "max_attempts": job.max_attempts,
            "priority": job.priority,
            "tags": job.tags,
        }
        if self.tells_args(job):
            told["args"] = job.args
        scope.set_context("oban job", told)

    def tells_args(self, job: Job) -> bool:
        return self.args and not is_sealed(job.args)

    def capture(self, job: Job, error: Exception) -> None:
        client = sentry_sdk.get_client()
        options = dict(client.options)
        if not self.tells_args(job):
            options["include_local_variables"] = False
        event, hint = event_from_exception(
            error, client_options=options, mechanism={"type": "oban", "handled": False}
        )
        sentry_sdk.capture_event(event, hint)


def without_our_lines(event: Any, hint: dict[str, Any]) -> Any:
    """Leave out what the SDK makes of a line of ours at ERROR, which each failed attempt writes.

    Hooks tell what is to be told of those; as lines no two of them are the same issue.
    """
    record = hint.get("log_record")
    return None if getattr(record, "oban_event", None) == "oban.job.exception" else event


# Here, as it is for all hooks, and the lines come when their scopes are over.
add_global_event_processor(without_our_lines)


def discards(job: Job, error: Exception) -> bool:
    """Whether the job will not be tried again, and not because that is what its worker wants."""
    definition = worker_named(job.worker)
    if definition is not None and definition.policy:
        rule = definition.policy.rule_for(error)
        if rule is not None and rule.fate != "retry":
            return rule.fate == "discard"
    return job.attempt >= job.max_attempts
