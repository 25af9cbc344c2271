"""What the network may do to messages: any split of the bytes means the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.cut import Cut
from tests.faults.wire import Framer, ProtocolError, Session


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


STARTUP = (16).to_bytes(4) + (196608).to_bytes(4) + b"user\0x\0\0"
SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
SYNC = message(b"S", b"")


def execute(sql: str) -> bytes:
    """Parse, Bind and Execute, all unnamed."""
    parse = message(b"P", b"\0" + sql.encode() + b"\0\0\0")
    return parse + message(b"B", bytes(8)) + message(b"E", bytes(5))


INSERT = execute("insert into notes values ($1)") + SYNC
READY = message(b"Z", b"I")
INSERTED = message(b"1", b"") + message(b"2", b"") + message(b"C", b"INSERT 0 1\0") + READY

pieces = st.lists(st.integers(1, 40), min_size=1)


def split(stream: bytes, sizes: list[int]) -> list[bytes]:
    """Cut a stream into chunks of these sizes, over and over."""
    chunks, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        chunks.append(stream[at : at + size])
        at, turn = at + size, turn + 1
    return chunks


@given(pieces)
def test_messages_are_whole_however_they_arrive(sizes: list[int]) -> None:
    framer = Framer(greets=True)
    stream = SSL_REQUEST + STARTUP + INSERT
    messages = [m for chunk in split(stream, sizes) for m in framer.feed(chunk)]
    assert [m.kind for m in messages] == ["ssl", "startup", "P", "B", "E", "S"]
    assert b"".join(m.raw for m in messages) == stream
    assert messages[2].strings(2) == ["", "insert into notes values ($1)"]


@given(pieces, pieces)
def test_what_is_not_cut_passes_unchanged(sent: list[int], answered: list[int]) -> None:
    session = Session([Cut("reply", lambda sql: "update" in sql)])
    for chunk in split(STARTUP + INSERT, sent):
        session.from_client(chunk)
    for chunk in split(READY + INSERTED, answered):
        session.from_server(chunk)
    assert session.to_server == STARTUP + INSERT
    assert session.to_client == READY + INSERTED
    assert session.cut is None


@given(pieces, pieces)
def test_not_a_byte_of_a_swallowed_reply_passes(sent: list[int], answered: list[int]) -> None:
    cut = Cut("reply", lambda sql: "insert" in sql)
    session = Session([cut])
    for chunk in split(STARTUP + INSERT, sent):
        session.from_client(chunk)
    for chunk in split(READY + INSERTED, answered):
        session.from_server(chunk)
        if session.cut:
            break
    assert session.to_server == STARTUP + INSERT
    assert session.to_client == READY
    assert session.cut is cut


@given(pieces)
def test_not_a_byte_of_a_statement_cut_before_sending_passes(sent: list[int]) -> None:
    cut = Cut("send", lambda sql: "insert" in sql)
    session = Session([cut])
    for chunk in split(STARTUP + INSERT, sent):
        session.from_client(chunk)
        if session.cut:
            break
    assert session.to_server == STARTUP
    assert session.cut is cut


def query(sql: str) -> bytes:
    return message(b"Q", sql.encode() + b"\0")


def complete(tag: str, status: str) -> bytes:
    return message(b"C", tag.encode() + b"\0") + message(b"Z", status.encode())


def started(cut: Cut) -> Session:
    """A session that is over its startup."""
    session = Session([cut])
    session.from_client(STARTUP)
    session.from_server(READY)
    session.to_client.clear()
    return session


def test_not_a_byte_of_the_commit_s_reply_passes() -> None:
    session = started(cut := Cut("reply", lambda sql: sql == "insert"))
    open_transaction = [("begin", "BEGIN"), ("insert", "INSERT 0 1"), ("select", "SELECT 1")]
    for sql, tag in open_transaction:
        session.from_client(query(sql))
        session.from_server(complete(tag, "T"))
    passed = b"".join(complete(tag, "T") for _, tag in open_transaction)
    assert session.to_client == passed
    session.from_client(query("commit"))
    for byte in complete("COMMIT", "I"):
        session.from_server(bytes([byte]))
    assert session.to_client == passed
    assert session.cut is cut


def test_a_flush_that_comes_late_releases_what_was_held() -> None:
    session = started(Cut("reply", lambda sql: "insert" in sql))
    session.from_client(INSERT.removesuffix(SYNC))
    done = message(b"C", b"INSERT 0 1\0")
    session.from_server(done)
    assert session.to_client == b""
    session.from_client(message(b"H", b""))
    assert session.to_client == done


def test_a_copy_that_the_server_ended_leaves_the_count_right() -> None:
    session = started(cut := Cut("reply", lambda sql: "insert" in sql))
    session.from_client(query("copy"))
    session.from_server(message(b"G", b"\0\0\0") + message(b"E", b"\0") + READY)
    session.from_client(INSERT)
    session.from_client(INSERT)
    session.from_server(INSERTED)
    assert session.cut is cut


def test_a_function_call_is_answered_like_a_query() -> None:
    session = started(cut := Cut("reply", lambda sql: "insert" in sql))
    session.from_client(message(b"F", b"") + INSERT)
    session.from_server(message(b"V", b"") + READY)
    assert session.cut is None
    session.from_server(INSERTED)
    assert session.cut is cut


def test_answers_nobody_asked_for_are_an_error() -> None:
    session = started(Cut("reply", lambda sql: False))
    with pytest.raises(ProtocolError, match="more than it was asked"):
        session.from_server(READY)


def test_a_sync_between_the_start_of_a_copy_and_its_end_does_not_count() -> None:
    session = started(cut := Cut("reply", lambda sql: "insert" in sql))
    session.from_client(execute("copy"))
    session.from_server(message(b"G", b"\0\0\0"))
    session.from_client(SYNC + message(b"d", b"1\n") + message(b"c", b"") + SYNC + INSERT)
    session.from_server(complete("COPY 1", "I"))
    assert session.cut is None
    session.from_server(INSERTED)
    assert session.cut is cut
