"""What becomes of a job by the kind of exception it raised: `retry_on` and its like."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from oban.errors import InvalidJob, InvalidOption, RaisedInProcess
from oban.fields import Seconds, seconds
from oban.job import Job

Fate = Literal["retry", "discard", "cancel", "snooze"]

#: Seconds, a list of them for the first attempt, the second and so on, of which the last one stays,
#: or what gives them for the job and what it raised.
Delay = Seconds | Sequence[Seconds] | Callable[[Job, Any], Seconds]
Some = type[BaseException] | Iterable[type[BaseException]]
#: Classes or tuples of them, each with its `Delay`. Said so, type checkers refuse dicts that have
#: keys of both kinds.
Delays = Mapping[Any, Any]

OPTIONS: Final[Mapping[str, Fate]] = {
    "retry_on": "retry",
    "discard_on": "discard",
    "cancel_on": "cancel",
    "snooze_on": "snooze",
}
DELAY: Final = (
    "0 or more seconds, a timedelta, a list of those by attempt, or a function of the job and the "
    "exception"
)


@dataclass(frozen=True, slots=True)
class Rule:
    kind: type[BaseException]
    fate: Fate
    #: None leaves it to the worker's backoff.
    delay: Delay | None = None

    def seconds(self, job: Job, error: BaseException) -> float | None:
        """Until the next try. Raises InvalidJob, or whatever a function of the worker's raises."""
        if self.delay is None:
            return None
        delay: Any = self.delay
        if callable(delay):
            delay = delay(job, error)
            if inspect.isawaitable(delay):
                if inspect.iscoroutine(delay):
                    delay.close()
                raise InvalidJob(f"the delay of {self.kind.__qualname__} is to be awaited; use def")
        elif not isinstance(delay, int | float | timedelta):
            delay = delay[min(max(job.attempt, 1), len(delay)) - 1]
        return clean_delay(self.kind.__qualname__, delay)


@dataclass(frozen=True, slots=True)
class Policy:
    """By class: the one named that is nearest to what was raised decides."""

    rules: Mapping[type[BaseException], Rule] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def rule_for(self, error: BaseException) -> Rule | None:
        if isinstance(error, RaisedInProcess):
            return self.named(error.rule)
        return next((self.rules[each] for each in type(error).__mro__ if each in self.rules), None)

    def named(self, name: str | None) -> Rule | None:
        """The rule that a child process has found: classes do not cross."""
        return next((rule for kind, rule in self.rules.items() if full_name(kind) == name), None)

    def name_for(self, error: BaseException) -> str | None:
        """What to find the rule by elsewhere."""
        rule = self.rule_for(error)
        return None if rule is None else full_name(rule.kind)


def full_name(kind: type[BaseException]) -> str:
    # In a child process the program itself goes by another name.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}.{kind.__qualname__}"


def clean_policy(worker: str, given: Mapping[str, object]) -> Policy:
    """From the options of a worker. Raises InvalidOption for what is no exception, or no delay."""
    rules: dict[type[BaseException], Rule] = {}
    for option, fate in OPTIONS.items():
        path = f"{option} of {worker}"
        for rule in rules_of(path, fate, given.get(option)):
            if rule.kind in rules:
                raise InvalidOption(
                    f"{rule.kind.__qualname__} stands twice in the policy of {worker}: to "
                    f"{rules[rule.kind].fate} and to {rule.fate}; an exception has one fate"
                )
            rules[rule.kind] = rule
    return Policy(rules)


def rules_of(path: str, fate: Fate, given: object) -> Iterator[Rule]:
    if given is None:
        return
    takes_delay = fate in ("retry", "snooze")
    if isinstance(given, Mapping):
        if not takes_delay:
            raise InvalidOption(f"{path} is a dict; it is an exception class, or a list of them")
        for keys, delay in given.items():
            for kind in kinds_of(path, keys):
                yield Rule(kind, fate, checked(f"{path} for {kind.__qualname__}", delay))
    elif fate == "snooze":
        raise InvalidOption(
            f"{path} is {given!r:.80}; it is a dict of exception classes and delays: {DELAY}"
        )
    else:
        yield from (Rule(kind, fate) for kind in kinds_of(path, given))


def kinds_of(path: str, given: object) -> Iterator[type[BaseException]]:
    many = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for kind in many:
        if not inspect.isclass(kind) or not issubclass(kind, Exception):
            raise InvalidOption(
                f"{path} holds {kind!r:.80}; it is an exception class, derived from Exception"
            )
        yield kind


def checked(path: str, delay: object) -> Delay:
    try:
        match delay:
            case int() | float() | timedelta():
                clean_delay(path, delay)
                return delay
            case list() | tuple() if delay:
                for each in delay:
                    clean_delay(path, each)
                return tuple(delay)
            case _ if callable(delay) and not inspect.iscoroutinefunction(delay):
                return delay  # what it gives is looked at when it is asked
    except InvalidJob as error:
        raise InvalidOption(str(error)) from None
    raise InvalidOption(f"{path} is {delay!r:.80}; it is {DELAY}")


def clean_delay(path: str, given: Any) -> float:
    delay = seconds(path, given)
    if delay < 0:
        raise InvalidJob(f"{path} is {delay:g}; it is 0 or more seconds")
    return delay
