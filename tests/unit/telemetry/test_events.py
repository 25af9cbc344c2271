import asyncio
import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban import telemetry
from oban.errors import ObanError
from oban.telemetry import events

from .conftest import Hear


@pytest.fixture(autouse=True)
def nothing_stays_attached() -> Iterator[None]:
    yield
    for id_ in tuple(events._routes.attachments):
        telemetry.detach(id_)


def ignore(name: str, metadata: dict[str, Any]) -> None:
    pass


class TestAttach:
    def test_a_handler_hears_the_events_it_named_and_no_others(self, hear: Hear) -> None:
        heard = hear("oban.job.start", "oban.job.stop")

        for name in ("oban.job.start", "oban.job.exception", "oban.job.stop"):
            telemetry.execute(name, {"of": name})

        assert heard == [
            ("oban.job.start", {"of": "oban.job.start"}),
            ("oban.job.stop", {"of": "oban.job.stop"}),
        ]

    def test_one_name_may_be_given_as_a_str(self) -> None:
        heard: list[str] = []
        telemetry.attach("one", "oban.job.start", lambda name, _: heard.append(name))

        telemetry.execute("oban.job.start", {})

        assert heard == ["oban.job.start"]

    def test_any_iterable_of_names_will_do(self) -> None:
        heard: list[str] = []
        names = (name for name in ("a", "b"))
        telemetry.attach("generated", names, lambda name, _: heard.append(name))

        for name in ("a", "b", "a"):
            telemetry.execute(name, {})

        assert heard == ["a", "b", "a"]

    def test_a_pattern_hears_every_name_it_matches(self, hear: Hear) -> None:
        failures, jobs = hear("oban.*.exception"), hear("oban.job.*")

        for name in ("oban.job.stop", "oban.job.exception", "oban.stager.stage.exception", "job"):
            telemetry.execute(name, {})

        assert [name for name, _ in failures] == [
            "oban.job.exception",
            "oban.stager.stage.exception",
        ]
        assert [name for name, _ in jobs] == ["oban.job.stop", "oban.job.exception"]

    def test_an_event_that_two_patterns_match_is_heard_once(self, hear: Hear) -> None:
        heard = hear("oban.*", "oban.job.*", "oban.job.stop")

        telemetry.execute("oban.job.stop", {})

        assert len(heard) == 1

    def test_handlers_are_called_in_the_order_they_were_attached(self) -> None:
        order: list[str] = []
        telemetry.attach("z", "e", lambda *_: order.append("first"))
        telemetry.attach("a", "e*", lambda *_: order.append("second"))

        telemetry.execute("e", {})

        assert order == ["first", "second"]

    def test_a_taken_id_is_an_error_and_changes_nothing(self) -> None:
        heard: list[str] = []
        telemetry.attach("metrics", "a", lambda name, _: heard.append(name))

        with pytest.raises(ValueError, match="'metrics'") as caught:
            telemetry.attach("metrics", "b", ignore)

        telemetry.execute("a", {})
        assert isinstance(caught.value, ObanError)
        assert heard == ["a"]
        assert not telemetry.listening("b")

    def test_a_handler_can_be_replaced_on_purpose_in_its_place(self) -> None:
        order: list[str] = []
        telemetry.attach("first", "e", lambda *_: order.append("old"))
        telemetry.attach("second", "e", lambda *_: order.append("second"))

        telemetry.attach("first", "e", lambda *_: order.append("new"), replace=True)
        telemetry.execute("e", {})

        assert order == ["new", "second"]

    def test_an_id_can_be_used_again_once_detached(self) -> None:
        telemetry.attach("metrics", "a", ignore)
        telemetry.detach("metrics")

        telemetry.attach("metrics", "b", ignore)

        assert (telemetry.listening("a"), telemetry.listening("b")) == (False, True)

    def test_no_events_at_all_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            telemetry.attach("nothing", [], ignore)

    def test_an_event_that_is_no_str_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="7"):
            telemetry.attach("odd", ["oban.job.start", 7], ignore)  # type: ignore[list-item]

        assert not telemetry.listening("oban.job.start")

    def test_an_async_handler_is_refused_before_its_coroutines_are_lost(self) -> None:
        async def handler(name: str, metadata: dict[str, Any]) -> None:
            pass

        with pytest.raises(TypeError, match="async"):
            telemetry.attach("async", "oban.job.start", handler)

    def test_a_handler_that_cannot_be_called_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="callable"):
            telemetry.attach("odd", "oban.job.start", "print")  # type: ignore[arg-type]


class TestDetach:
    def test_a_detached_handler_hears_no_more_while_others_do(self) -> None:
        gone: list[str] = []
        stays: list[str] = []
        telemetry.attach("gone", "e", lambda name, _: gone.append(name))
        telemetry.attach("stays", "e", lambda name, _: stays.append(name))

        assert telemetry.detach("gone") is True
        telemetry.execute("e", {})

        assert (gone, stays) == ([], ["e"])

    def test_detaching_what_is_not_attached_does_nothing(self) -> None:
        assert telemetry.detach("never") is False

    def test_a_handler_may_detach_itself(self) -> None:
        heard: list[str] = []

        def once(name: str, metadata: dict[str, Any]) -> None:
            heard.append(name)
            telemetry.detach("once")

        telemetry.attach("once", "e", once)
        telemetry.execute("e", {})
        telemetry.execute("e", {})

        assert heard == ["e"]


class TestExecute:
    def test_with_no_handler_nothing_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Untouchable(dict[str, Any]):
            def __getattribute__(self, name: str) -> Any:
                raise AssertionError(f"metadata was touched: {name}")

        telemetry.attach("elsewhere", "another.event", lambda *_: pytest.fail("called"))

        telemetry.execute("oban.job.start", Untouchable())

        assert not telemetry.listening("oban.job.start")

    def test_handlers_run_in_the_thread_of_the_caller(self) -> None:
        threads: list[int] = []
        telemetry.attach("thread", "e", lambda *_: threads.append(threading.get_ident()))
        caller = threading.Thread(target=telemetry.execute, args=("e", {}))

        caller.start()
        caller.join()
        telemetry.execute("e", {})

        assert threads == [caller.ident, threading.get_ident()]

    def test_a_handler_that_raises_is_logged_and_stays_and_the_next_is_called(
        self, hear: Hear, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(name: str, metadata: dict[str, Any]) -> None:
            raise RuntimeError("no such gauge")

        telemetry.attach("broken", "e", broken)
        heard = hear("e")

        telemetry.execute("e", {})
        telemetry.execute("e", {})

        assert len(heard) == 2
        assert [record.name for record in caplog.records] == ["oban", "oban"]
        assert "'broken' failed on e" in caplog.text
        assert "no such gauge" in caplog.text

    def test_a_log_that_raises_as_well_does_not_reach_the_caller(self) -> None:
        class Full(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                tried.append(record.name)
                raise OSError("disk full")

        tried: list[str] = []
        telemetry.attach("broken", "e", lambda *_: 1 / 0)
        full = Full()
        logging.getLogger("oban").addHandler(full)
        try:
            telemetry.execute("e", {})
        finally:
            logging.getLogger("oban").removeHandler(full)

        assert tried == ["oban"]

    def test_what_is_no_error_passes_through_a_handler(self) -> None:
        def cancelled(name: str, metadata: dict[str, Any]) -> None:
            raise asyncio.CancelledError

        telemetry.attach("cancelled", "e", cancelled)

        with pytest.raises(asyncio.CancelledError):
            telemetry.execute("e", {})


class TestListening:
    def test_it_says_whether_an_event_would_be_heard(self) -> None:
        telemetry.attach("one", ["a.b", "c.*"], ignore)

        assert [telemetry.listening(name) for name in ("a.b", "a.c", "c.d", "c")] == [
            True,
            False,
            True,
            False,
        ]

    def test_a_name_asked_for_before_is_one_lookup(self, monkeypatch: pytest.MonkeyPatch) -> None:
        telemetry.attach("one", "a.*", ignore)
        telemetry.listening("a.b")
        telemetry.listening("b")
        monkeypatch.setattr(events, "fnmatchcase", lambda *_: pytest.fail("matched again"))

        assert telemetry.listening("a.b")
        assert not telemetry.listening("b")

    def test_endless_different_names_do_not_pile_up(
        self, hear: Hear, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "_REMEMBERED_NAMES", 3)
        heard = hear("n.*")

        for number in range(10):
            telemetry.execute(f"n.{number}", {})

        assert len(heard) == 10
        assert len(events._routes) == 3

    @given(
        operations=st.lists(
            st.tuples(
                st.sampled_from(["attach", "detach", "execute"]),
                st.sampled_from(["x", "y", "z"]),
                st.sampled_from(["a.one", "a.two", "b.one", "a.*", "*.one", "*"]),
            ),
            max_size=30,
        )
    )
    def test_it_agrees_with_a_simple_model(self, operations: list[tuple[str, str, str]]) -> None:
        def matches(pattern: str, name: str) -> bool:
            head, star, tail = pattern.partition("*")
            return name == pattern or (
                star == "*" and name.startswith(head) and name.endswith(tail)
            )

        def hear(id_: str, name: str, metadata: dict[str, Any]) -> None:
            heard.append((id_, name))

        attached: dict[str, str] = {}
        heard: list[tuple[str, str]] = []
        expected: list[tuple[str, str]] = []

        try:
            for operation, id_, event in operations:
                if operation == "detach":
                    assert telemetry.detach(id_) is (attached.pop(id_, None) is not None)
                elif operation == "execute":
                    told = [one for one, pattern in attached.items() if matches(pattern, event)]
                    expected += [(one, event) for one in told]
                    assert telemetry.listening(event) is bool(told)
                    telemetry.execute(event, {})
                elif id_ in attached:
                    with pytest.raises(ValueError):
                        telemetry.attach(id_, event, ignore)
                else:
                    attached[id_] = event
                    telemetry.attach(id_, event, partial(hear, id_))
            assert heard == expected
        finally:
            for id_ in attached:
                telemetry.detach(id_)


class TestThreads:
    def test_handlers_come_and_go_while_events_are_executed(self, hear: Hear) -> None:
        heard = hear("e")
        errors: list[BaseException] = []
        begin = threading.Barrier(6)

        def run(body: Any) -> None:
            try:
                begin.wait()
                for turn in range(300):
                    body(turn)
            except BaseException as error:
                errors.append(error)

        def come_and_go(number: int) -> Any:
            def body(turn: int) -> None:
                telemetry.attach(f"{number}.{turn}", ["e", f"own.{number}"], ignore)
                assert telemetry.listening(f"own.{number}")
                assert telemetry.detach(f"{number}.{turn}")
                assert not telemetry.listening(f"own.{number}")

            return body

        bodies = [*map(come_and_go, range(3)), *[lambda _: telemetry.execute("e", {})] * 3]
        threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert errors == []
        assert len(heard) == 900
        assert len(events._routes.attachments) == 1

    def test_of_many_that_want_one_id_exactly_one_gets_it(self) -> None:
        won: list[int] = []
        begin = threading.Barrier(8)

        def claim(number: int) -> None:
            begin.wait()
            try:
                telemetry.attach("wanted", "e", ignore)
            except ValueError:
                return
            won.append(number)

        threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(won) == 1


class TestDescribeError:
    def test_it_gives_message_type_and_the_whole_traceback(self) -> None:
        try:
            int("key")
        except ValueError as error:
            said = telemetry.describe_error(error)

        assert said["error_message"] == "invalid literal for int() with base 10: 'key'"
        assert said["error_type"] == "ValueError"
        assert said["traceback"].startswith("Traceback (most recent call last):")
        assert 'int("key")' in said["traceback"]

    def test_an_error_whose_text_fails_is_described_all_the_same(self) -> None:
        class MuteError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("nothing to say")

        said = telemetry.describe_error(MuteError())

        assert said["error_message"] == "<RuntimeError in __str__>"
        assert "MuteError" in said["traceback"]
