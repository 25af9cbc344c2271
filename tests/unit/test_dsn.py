import string
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from oban import Oban
from oban.dsn import check_dsn, mask_dsn
from oban.errors import InstanceNotFound, InvalidOption

#: Any text libpq can hold.
PASSWORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
#: Text with all that is special in a connection string, and letters that nothing else there has.
RAW = st.text(string.ascii_uppercase + "@/:?#%&=+ ',;[]\\\"\n\t", min_size=1)


@pytest.mark.parametrize(
    ("dsn", "masked"),
    [
        ("embedded", "embedded"),
        ("", ""),
        ("postgresql://u:secret@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgres://u:secret@h/db?sslmode=require", "postgres://u:***@h/db?sslmode=require"),
        ("postgresql://u:secret@a:1,b:2/db", "postgresql://u:***@a:1,b:2/db"),
        ("postgresql://u:sec?user=ret@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:s%40%2F@[::1]:5432/db", "postgresql://u:***@[::1]:5432/db"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql:///db?host=/run/pg", "postgresql:///db?host=/run/pg"),
        ("postgresql://h/db?user=u&password=secret", "postgresql://h/db?user=u&password=***"),
        ("postgresql://h/db?pass%77ord=secret&user=u", "postgresql://h/db?pass%77ord=***&user=u"),
        ("postgresql://u:a@h/db?sslpassword=b", "postgresql://u:***@h/db?sslpassword=***"),
        ("host=h password=secret dbname=db", "host=h password=*** dbname=db"),
        ("host=h password='s e\\'c' user=u", "host=h password=*** user=u"),
        ("host = h password = secret", "host=h password=***"),
    ],
)
def test_a_dsn_is_shown_without_its_passwords(dsn: str, masked: str) -> None:
    assert sorted(mask_dsn(dsn).split()) == sorted(masked.split())


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:sec@ret@h/db",
        "postgresql://u:sec/ret@h/db",
        "postgresql://u:sec%ret@h/db",
        "postgresql://u:sec%AAret@h/db",
        "postgresql://h?password=sec@ret",
        "postgresql+psycopg://u:secret@h/db",
        "host=h password=sec ret",
        "password=sec\0ret",
        "password=sec\ud800ret",
        "secret",
    ],
)
def test_a_dsn_whose_parts_are_uncertain_is_hidden_whole(dsn: str) -> None:
    assert mask_dsn(dsn) == "***"


@given(PASSWORDS)
@example("@").via("the end of a login")
@example("***").via("the mask itself")
def test_what_is_shown_does_not_depend_on_the_password(password: str) -> None:
    coded = quote(password, safe="")
    assert mask_dsn(f"postgresql://u:{coded}@h/db") == "postgresql://u:***@h/db"
    assert mask_dsn(f"postgresql://h/db?password={coded}") == "postgresql://h/db?password=***"
    assert mask_dsn(make_conninfo(host="h", password=password)) == "password=*** host=h"


@given(
    st.sampled_from(
        [
            "postgresql://u:{}@h/db",
            "postgresql://u:{}@h:5432,i:5433/db?connect_timeout=5",
            "postgresql://h/db?password={}",
            "postgresql://h?user=u&password={}&dbname=db",
            "postgresql://u:{}@/db?host=/run",
            "host=h password={} user=u",
            "password={}",
            "password='{}' host=h",
            "{}",
        ]
    ),
    RAW,
)
@example("postgresql://u:{}@h/db", "A@B/C?D=E").via("a tail that looks like a place")
def test_not_a_letter_of_an_unquoted_password_is_shown(form: str, password: str) -> None:
    shown = mask_dsn(form.format(password))
    assert not set(shown) & set(string.ascii_uppercase)


@pytest.mark.parametrize("dsn", ["", "host=h", "postgresql://u:p@h/db", "postgres://h"])
def test_a_dsn_that_postgresql_reads_passes(dsn: str) -> None:
    check_dsn("dsn", dsn)


@pytest.mark.parametrize(
    ("dsn", "advice"),
    [
        ("postgresql+psycopg://u:secret@h/db", "in place of postgresql+psycopg://"),
        ("postgresql://u:secr%et@h/db", "%40"),
        ("secret", "postgresql://user:password@host"),
        ("embedded", "oban.embedded.start().dsn"),
    ],
)
def test_any_other_is_refused_with_advice_and_without_being_quoted(dsn: str, advice: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        check_dsn("dsn", dsn)
    assert str(caught.value).startswith("dsn is not a connection string")
    assert advice in str(caught.value)
    assert "secr" not in str(caught.value)


@pytest.mark.parametrize("dsn", ["embedded", "mysql://u:secret@h/db", "postgresql+psycopg://u:p@h"])
async def test_an_instance_and_a_pool_refuse_it_before_anything_connects(dsn: str) -> None:
    with pytest.raises(InvalidOption, match="the DSN is not a connection string"):
        Oban(pool=dsn, name="unreadable")
    with pytest.raises(InstanceNotFound):
        Oban.get_instance("unreadable")
    with pytest.raises(InvalidOption, match="the DSN is not a connection string"):
        await Oban.create_pool(dsn)
    with pytest.raises(InvalidOption, match="listen_dsn is not a connection string"):
        Oban(pool="host=h", listen_dsn=dsn, name="unreadable")
