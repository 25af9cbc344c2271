"""What the network may do to messages: any split of the bytes means the same."""

from hypothesis import given
from hypothesis import strategies as st
from tests.faults.cut import Cut
from tests.faults.wire import Framer, Session


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


STARTUP = (16).to_bytes(4) + (196608).to_bytes(4) + b"user\0x\0\0"
SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
INSERT = b"".join(
    [
        message(b"P", b"\0insert into notes values ($1)\0\0\0"),
        message(b"B", b"\0\0\0\0\0\0\0\0"),
        message(b"E", b"\0\0\0\0\0"),
        message(b"S", b""),
    ]
)
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
