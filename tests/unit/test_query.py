"""What is typed into the search field of the dashboard."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban.engines.browsing import JobSearch, PathValue
from oban.web.query import parse, quoted


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("", JobSearch()),
        ("   ", JobSearch()),
        ("queue:mailers", JobSearch(queue="mailers")),
        ("worker:app.Mail node:web-1", JobSearch(worker="app.Mail", node="web-1")),
        ("tag:a tag:B", JobSearch(tags=("a", "b"))),
        ("priority:3", JobSearch(priority=3)),
        ("42 #43 id:44,45", JobSearch(ids=(42, 43, 44, 45))),
        ("Welcome", JobSearch(worker_like="Welcome")),
        ("args.user.id:42", JobSearch(paths=(PathValue("args", ("user", "id"), "42"),))),
        ("args.at:10:30", JobSearch(paths=(PathValue("args", ("at",), "10:30"),))),
        ('meta.name:"two words"', JobSearch(paths=(PathValue("meta", ("name",), "two words"),))),
        ("queue:'a b'", JobSearch(queue="a b")),
        ("args.empty:", JobSearch(paths=(PathValue("args", ("empty",), ""),))),
    ],
)
def test_a_query_says_what_to_search(text: str, search: JobSearch) -> None:
    found = parse(text, None)
    assert found.search == search
    assert found.errors == []


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("2h", 7_200), ("7d", 604_800)])
def test_since_is_a_span_before_now(text: str, seconds: int) -> None:
    since = parse(f"since:{text}", None).search.since
    assert since is not None
    assert abs(datetime.now(UTC) - timedelta(seconds=seconds) - since) < timedelta(seconds=2)


def test_a_state_that_is_none_is_not_searched() -> None:
    assert parse("", "bogus").search.state is None
    assert parse("", "completed").search.state == "completed"


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    parse(text, None)


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30
    )
)
def test_a_quoted_word_is_read_as_it_is(word: str) -> None:
    assert parse(f"queue:{quoted(word)}", None).search.queue == word
