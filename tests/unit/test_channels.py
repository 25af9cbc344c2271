"""Payloads of three packages, of nobody's, and of somebody who means harm."""

import base64
import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oban.engines.postgres.channels import MAX_INFLATED, Channels, decode
from oban.engines.postgres.signals import Echoes
from oban.engines.signals import (
    Commanded,
    Due,
    ForeignCommand,
    Inserted,
    Resigned,
    Stop,
    Undecodable,
)

CHANNELS = Channels.of("public")
KEYS = st.sampled_from(["at", "queue", "action", "job_id"])
KNOWN = (Inserted, Due, Stop, Undecodable)


def bare(text: str) -> str:
    """As old nodes and the published package for Python compress."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


CODECS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "marked": lambda text: "Z:" + bare(text),
    "bare": bare,
}
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
objects = st.dictionaries(st.text(max_size=20), values, max_size=5)


def test_channels_are_named_by_the_prefix() -> None:
    names = ("insert", "signal", "leader", "due", "control")
    assert CHANNELS.all == tuple(f"public.oban_{name}" for name in names)
    assert Channels.of('a "b"').insert == 'a "b".oban_insert'


@codecs
def test_what_every_package_says_is_read(codec: Any) -> None:
    def read(channel: str, message: object) -> object:
        return CHANNELS.read(channel, codec(json.dumps(message)))

    assert read(CHANNELS.insert, {"queue": "mailers"}) == Inserted("mailers")
    assert read(CHANNELS.due, {"at": 17.5}) == Due(17.5)
    assert read(CHANNELS.signal, {"action": "pkill", "job_id": 7}) == Stop(7)
    pause = {"action": "pause", "queue": "*", "ident": "any"}
    assert read(CHANNELS.signal, pause) == ForeignCommand("pause", "*", "any")
    scale = {"action": "scale", "queue": "q", "ident": "Oban.web-1", "limit": 3}
    assert read(CHANNELS.signal, scale) == ForeignCommand("scale", "q", "Oban.web-1", limit=3)
    assert read(CHANNELS.leader, {"down": "Oban"}) is None
    assert read(CHANNELS.leader, {"action": "resign", "name": "Oban"}) == Resigned("Oban")
    assert read(CHANNELS.control, {"name": "Oban"}) == Commanded("Oban")
    assert read(CHANNELS.control, {"name": "Oban", "echo_count": 2}) == Commanded("Oban", 2)
    assert read(CHANNELS.control, {"probe": "1"}) is None
    assert read(CHANNELS.signal, {}) is None


@settings(max_examples=40)
@given(message=objects)
def test_any_object_arrives_as_it_was_sent(message: dict[str, Any]) -> None:
    for codec in CODECS.values():
        assert repr(decode(codec(json.dumps(message)))) == repr(message)


@pytest.mark.parametrize("channel", CHANNELS.all)
@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "{}" * 2,
        "Z:",
        "Z:{}",
        "Z:" + base64.b64encode(b"{}").decode(),
        "H4sI",
        "H4sIAAAAAAAAA",
        "H4sI!!!!",
        bare("{"),
        bare('{"queue": "q"}')[:-12],
        base64.b64encode(gzip.compress(b"\xff\xfe", mtime=0)).decode(),
        "[" * 7000,
        bare("[" * 100_000),
        bare('{"a":' * 100_000),
    ],
    ids=lambda payload: payload[:20],
)
def test_what_cannot_be_decoded_is_said_to_be(channel: str, payload: str) -> None:
    signal = CHANNELS.read(channel, payload)
    assert isinstance(signal, Undecodable)
    assert (signal.channel, signal.payload) == (channel, payload)
    assert signal.reason


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ("insert", "{}"),
        ("due", "{}"),
        ("due", '{"at": "soon"}'),
        ("due", '{"at": null}'),
        ("due", '{"at": ' + "9" * 400 + "}"),
        ("due", '{"at": ' + "9" * 7000 + "}"),
        ("due", '{"at": NaN}'),
        ("due", '{"at": 1e999}'),
        ("signal", '{"action": "pkill"}'),
        ("signal", '{"action": "pkill", "job_id": null}'),
        ("signal", '{"action": "pkill", "job_id": "x"}'),
        ("signal", '{"action": "pkill", "job_id": Infinity}'),
        ("signal", '{"action": "pkill", "job_id": NaN}'),
    ],
)
def test_a_message_without_its_meaning_is_undecodable(channel: str, message: str) -> None:
    assert isinstance(CHANNELS.read(f"public.oban_{channel}", message), Undecodable)


@given(payload=st.text() | st.text('Z:H4sI{}[]",0123456789ne+/='))
@example(payload="Z:\ud800")
@example(payload="{\ud800")
@example(payload='{"at": -1e999}')
def test_no_payload_is_an_error(payload: str) -> None:
    for channel in CHANNELS.all:
        signal = CHANNELS.read(channel, payload)
        assert signal is None or isinstance(signal, KNOWN), channel


@given(
    message=values | st.dictionaries(st.sampled_from(["at", "queue", "action", "job_id"]), values)
)
def test_no_json_is_an_error(message: Any) -> None:
    if isinstance(message, dict) and "action" in message:
        message["action"] = "pkill"
    for channel in CHANNELS.all:
        signal = CHANNELS.read(channel, json.dumps(message))
        assert signal is None or isinstance(signal, KNOWN), channel


@pytest.mark.parametrize("mark", ["", "Z:"])
def test_a_bomb_is_defused(mark: str) -> None:
    """What PostgreSQL lets through in one notification is inflated to a megabyte at most."""
    bomb = mark + bare('{"queue": "' + "q" * 7_000_000 + '"}')
    assert len(bomb) < 16_000
    started = time.monotonic()
    signal = CHANNELS.read(CHANNELS.insert, bomb)
    assert time.monotonic() - started < 0.5
    assert isinstance(signal, Undecodable)
    assert str(MAX_INFLATED) in signal.reason


@pytest.mark.parametrize("extra", [0, 1])
def test_the_bound_is_exact(extra: int) -> None:
    text = "{" + " " * (MAX_INFLATED - 2 + extra) + "}"
    if extra:
        with pytest.raises(ValueError, match="larger than"):
            decode(bare(text))
    else:
        assert decode(bare(text)) == {}


def test_an_undecodable_payload_is_not_shown() -> None:
    signal = CHANNELS.read(CHANNELS.insert, "secret")
    assert "secret" not in repr(signal)


@pytest.mark.parametrize("limit", [-5, 0, 2_000_000, "3", 1.5, True])
def test_a_limit_that_no_queue_can_have_is_not_obeyed(limit: object) -> None:
    message = json.dumps({"action": "scale", "queue": "q", "ident": "any", "limit": limit})
    assert isinstance(CHANNELS.read(CHANNELS.signal, message), Undecodable)


def test_what_our_own_commands_tell_other_packages_is_not_for_our_nodes() -> None:
    echoes = Echoes()
    foreign = ForeignCommand("pause", "q", "any")
    assert not echoes.include(foreign, 1)
    assert not echoes.include(Commanded("Oban", 2), 1)
    assert echoes.include(foreign, 1)
    assert not echoes.include(foreign, 2)
    assert echoes.include(foreign, 1)
    assert not echoes.include(foreign, 1)
