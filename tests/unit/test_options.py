import math
import pickle
import socket
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban.errors import InvalidOption
from oban.options import Options, PoolOptions, QueueOptions, StagerOptions
from oban.part import Part, rules

PARTS: tuple[type[Part], ...] = (Options, QueueOptions, StagerOptions, PoolOptions)


def refusal(**options: Any) -> str:
    with pytest.raises(InvalidOption) as caught:
        Options.parse(options)
    return str(caught.value)


def test_defaults_are_those_of_the_contract() -> None:
    options = Options()
    assert options == Options.parse({})
    assert (options.name, options.prefix, options.queues) == ("Oban", "public", {})
    assert options.node == socket.gethostname()
    assert (options.shutdown_grace_period, options.cancel_grace_period) == (15.0, 5.0)
    assert (options.listen_dsn, options.worker_modules) == (None, None)
    assert (options.stager.interval, options.stager.limit) == (1.0, 20_000)
    pool = PoolOptions()
    assert (pool.min_size, pool.max_size, pool.timeout) == (1, 10, 30)
    assert (pool.max_lifetime, pool.max_idle, pool.check) == (3600, 600, False)


@pytest.mark.parametrize("part", PARTS)
def test_every_number_has_a_finite_range(part: type[Part]) -> None:
    for name, rule in rules(part).items():
        if rule.kind in (int, float):
            assert rule.range, name
            assert math.isfinite(rule.range.high), name


@pytest.mark.parametrize("part", PARTS)
def test_options_cannot_be_changed_afterwards(part: type[Part]) -> None:
    options = part()
    with pytest.raises(FrozenInstanceError):
        setattr(options, fields(part)[0].name, 1)


def test_options_travel_to_another_process() -> None:
    options = Options(queues={"mailers": QueueOptions(limit=3)})
    assert pickle.loads(pickle.dumps(options)) == options


def test_a_queue_is_a_limit_or_a_table_or_its_options() -> None:
    options = Options.parse(
        {
            "queues": {
                "mailers": 20,
                "media": {"limit": 5, "paused": True, "debounce_interval": 1},
                "default": {},
                "other": QueueOptions(limit=7),
            }
        }
    )
    assert options.queues == {
        "mailers": QueueOptions(limit=20),
        "media": QueueOptions(limit=5, paused=True, debounce_interval=1.0),
        "default": QueueOptions(),
        "other": QueueOptions(limit=7),
    }
    assert type(options.queues["media"].debounce_interval) is float


def test_none_means_the_default() -> None:
    given = dict.fromkeys([each.name for each in fields(Options)])
    assert Options.parse(given) == Options()
    assert QueueOptions.parse("mailers", {"limit": None}) == QueueOptions()


def test_none_is_no_value_of_a_field() -> None:
    with pytest.raises(InvalidOption, match=r"queue\.limit is None"):
        QueueOptions(limit=None)  # type: ignore[arg-type]


def test_a_queue_needs_more_than_none() -> None:
    with pytest.raises(InvalidOption, match=r"queues\.m is None; it is a limit or a table of"):
        QueueOptions.parse("m", None)


@pytest.mark.parametrize("limit", [0, -1, 1_000_001, True, "3", 1.5, math.inf, [1]])
def test_a_wrong_limit_is_refused_by_queue_key_value_and_range(limit: object) -> None:
    message = f"queues.mailers.limit is {limit!r}; it is a whole number from 1 to 1_000_000"
    with pytest.raises(InvalidOption) as caught:
        QueueOptions.parse("mailers", {"limit": limit})
    assert str(caught.value) == message


@pytest.mark.parametrize("interval", [math.nan, math.inf, -math.inf, 0, -1, 10**400, True, "1"])
def test_seconds_are_finite_and_in_range(interval: object) -> None:
    message = refusal(stager={"interval": interval})
    assert message.startswith("stager.interval is ")
    assert message.endswith("; it is a number of seconds from 0.01 to 3_600")


@given(st.integers(1, 3_600) | st.floats(0.01, 3_600))
def test_whole_seconds_are_seconds(interval: float) -> None:
    stager = StagerOptions(interval=interval)
    assert stager.interval == interval
    assert type(stager.interval) is float


@pytest.mark.parametrize("paused", [1, 0, "true", "no"])
def test_only_a_bool_is_a_bool(paused: object) -> None:
    message = refusal(queues={"m": {"paused": paused}})
    assert message == f"queues.m.paused is {paused!r}; it is true or false"


@pytest.mark.parametrize("name", ["", "  ", "q" * 128, 5, None, "a\0b", "\ud800"])
def test_a_queue_has_a_name_that_can_be_stored(name: Any) -> None:
    assert "queues" in refusal(queues={name: 1})
    with pytest.raises(InvalidOption, match="queue"):
        QueueOptions.parse(name, 1)


def test_the_longest_queue_name_counts_characters() -> None:
    name = "é" * 127
    assert list(Options.parse({"queues": {name: 1}}).queues) == [name]


@pytest.mark.parametrize("prefix", ["", "  ", "p" * 41, "é" * 21, 5])
def test_a_prefix_has_1_to_40_bytes_and_the_message_says_why(prefix: object) -> None:
    message = refusal(prefix=prefix)
    assert message.startswith(f"prefix is {prefix!r}; it is text of 1 to 40 bytes")
    assert "63 bytes" in message


@pytest.mark.parametrize("prefix", ["p" * 40, "é" * 20, 'qu"ote', "Mixed Case"])
def test_a_prefix_may_be_any_identifier(prefix: str) -> None:
    assert Options.parse({"prefix": prefix}).prefix == prefix


@pytest.mark.parametrize("key", ["prefix", "name", "node"])
def test_names_hold_no_nul_character(key: str) -> None:
    assert f"{key} holds a NUL character" in refusal(**{key: "a\0b"})


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"prefx": "x"}, "prefx is not an option (the nearest is prefix); there are: name, node"),
        ({"prunr": {}}, "prunr is not an option (the nearest is pruner)"),
        ({"zzzz": 1}, "zzzz is not an option; there are: name"),
        ({"stager": {"intervall": 1}}, "stager.intervall is not an option (the nearest is stager."),
        ({"queues": {"m": {"limt": 1}}}, "queues.m.limt is not an option (the nearest is queues.m"),
        ({"queues": {"m": {5: 1}}}, "queues.m.5 is not an option"),
    ],
)
def test_an_unknown_option_names_the_nearest(options: dict[str, Any], start: str) -> None:
    assert refusal(**options).startswith(start)


@pytest.mark.parametrize("key", Options.later)
@pytest.mark.parametrize("value", [{}, None, False])
def test_an_empty_option_of_a_later_version_is_welcome(key: str, value: object) -> None:
    assert Options.parse({key: value}) == Options()


@pytest.mark.parametrize("key", Options.later)
@pytest.mark.parametrize("value", [{"interval": 2}, True, 1, 0, [], "auto"])
def test_an_option_of_a_later_version_is_refused_plainly(key: str, value: object) -> None:
    message = refusal(**{key: value})
    assert message.startswith(f"{key} is {value!r}, and {key} is not in this version yet; remove")


@pytest.mark.parametrize("key", QueueOptions.later)
def test_a_queue_option_of_a_later_version_is_refused_plainly(key: str) -> None:
    message = refusal(queues={"m": {key: 3}})
    assert f"queues.m.{key} is not in this version yet" in message
    assert Options.parse({"queues": {"m": {key: None, "limit": 2}}}).queues["m"].limit == 2


def test_the_default_of_an_option_of_a_later_version_is_welcome() -> None:
    assert QueueOptions.parse("m", {"claim_ahead": "auto"}) == QueueOptions()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queues": [1]}, "queues is [1]; it is a table of names and their options"),
        ({"queues": {"m": [1]}}, "queues.m is [1]; it is a limit or a table of limit, paused"),
        ({"stager": 3}, "stager is 3; it is a table of interval, limit"),
        ({"worker_modules": "app"}, "worker_modules is 'app'; it is a list, each text"),
        ({"worker_modules": {"a": 1}}, "worker_modules is {'a': 1}; it is a list, each text"),
        ({"worker_modules": ["a", 5]}, "worker_modules[1] is 5; it is text"),
        ({"node": ""}, "node is ''; it is text of 1 to 255 bytes"),
        ({"cancel_grace_period": -1}, "cancel_grace_period is -1; it is a number of seconds"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(options: dict[str, Any], message: str) -> None:
    assert refusal(**options).startswith(message)


def test_a_list_is_kept_as_a_tuple() -> None:
    assert Options.parse({"worker_modules": ["a.b", "c"]}).worker_modules == ("a.b", "c")
    assert Options.parse({"worker_modules": []}).worker_modules == ()


@pytest.mark.parametrize("value", [["hunter2"], {"hunter2": 1}, "hunter2\0", "hunter2\ud800"])
def test_a_refused_dsn_is_not_quoted(value: object) -> None:
    message = refusal(listen_dsn=value)
    assert message.startswith("listen_dsn ")
    assert "hunter2" not in message


def test_the_repr_shows_no_dsn() -> None:
    options = Options(listen_dsn="postgresql://u:hunter2@h/db")
    assert options.listen_dsn == "postgresql://u:hunter2@h/db"
    assert "hunter2" not in repr(options)


def test_a_pool_begins_no_larger_than_it_may_grow() -> None:
    with pytest.raises(InvalidOption, match="pool_min_size is 20 and pool_max_size is 10"):
        PoolOptions(min_size=20)
    with pytest.raises(InvalidOption, match="pool_max_size is 0; it is a whole number from 1"):
        PoolOptions(min_size=0, max_size=0)
