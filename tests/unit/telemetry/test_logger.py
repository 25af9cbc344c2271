import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest

from oban import telemetry
from oban.errors import Contended, DatabaseUnavailable, OutcomeUnknown
from oban.telemetry import logger as event_logger

from .conftest import AJob, Kept

Log: TypeAlias = tuple[logging.Logger, Kept]

STOP = {"state": "completed", "duration": 12_345_678, "queue_time": 4_100_000, "monotonic_time": 9}
FAILURE = {"error_message": "boom", "error_type": "ValueError", "traceback": "Traceback…\nboom\n"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def a_terminal_with_colors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from oban.telemetry import text_line

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text_line._codes.cache_clear()
    yield
    text_line._codes.cache_clear()


def levels(kept: Kept) -> list[int]:
    return [record.levelno for record in kept.records]


def logger_to(*streams: io.StringIO) -> logging.Logger:
    logger = logging.Logger("streams", logging.DEBUG)
    for stream in streams:
        logger.addHandler(logging.StreamHandler(stream))
    return logger


class TestLevels:
    def test_job_events_are_logged_at_the_level_given(self, log: Log, job: AJob) -> None:
        event_logger.attach(logging.WARNING, log[0])

        telemetry.execute("oban.job.start", {"job": job, "monotonic_time": 1})
        telemetry.execute("oban.job.stop", {"job": job, **STOP})

        assert levels(log[1]) == [logging.WARNING, logging.WARNING]

    @pytest.mark.parametrize("level", ["WARNING", "warning", 30])
    def test_the_level_may_be_a_name_or_a_number(
        self, level: int | str, log: Log, job: AJob
    ) -> None:
        event_logger.attach(level, log[0])

        telemetry.execute("oban.job.start", {"job": job})

        assert levels(log[1]) == [logging.WARNING]

    def test_jobs_are_logged_at_info_by_default(self, log: Log, job: AJob) -> None:
        event_logger.attach(logger=log[0])

        telemetry.execute("oban.job.stop", {"job": job, **STOP})

        assert levels(log[1]) == [logging.INFO]

    def test_loops_are_logged_at_debug(self, log: Log) -> None:
        event_logger.attach("ERROR", log[0])

        with telemetry.span("oban.stager.stage"):
            pass

        assert levels(log[1]) == [logging.DEBUG, logging.DEBUG]

    def test_failures_of_jobs_and_loops_are_logged_at_error(self, log: Log, job: AJob) -> None:
        event_logger.attach(logger=log[0], events="*.exception")

        telemetry.execute("oban.job.exception", {"job": job, **STOP, **FAILURE})
        with pytest.raises(KeyError), telemetry.span("oban.stager.stage"):
            raise KeyError

        assert levels(log[1]) == [logging.ERROR, logging.ERROR]

    def test_a_loop_that_is_cancelled_is_no_failure(self, log: Log, job: AJob) -> None:
        event_logger.attach(logger=log[0])

        telemetry.execute("oban.stager.stage.exception", {"error_type": "CancelledError"})
        telemetry.execute("oban.job.exception", {"job": job, "error_type": "CancelledError"})

        assert levels(log[1]) == [logging.DEBUG, logging.ERROR]

    @pytest.mark.parametrize("name", sorted(event_logger.WARNINGS))
    def test_trouble_is_logged_at_warning(self, name: str, log: Log) -> None:
        event_logger.attach("DEBUG", log[0])

        telemetry.execute(name, {"queue": "default"})

        assert levels(log[1]) == [logging.WARNING]
        assert json.loads(log[1].lines[0])["event"] == name

    @pytest.mark.parametrize("count", [0, 2])
    def test_a_rescue_that_rescued_something_is_logged_at_warning(
        self, count: int, log: Log
    ) -> None:
        event_logger.attach(logger=log[0])
        told = {"rescued_count": count, "jobs": dict.fromkeys(range(count), "rescued")}

        telemetry.execute("oban.lifeline.rescue.stop", {**told, "nodes": ["web-1"]})

        assert levels(log[1]) == [logging.WARNING if count else logging.DEBUG]

    @pytest.mark.parametrize("name", ["oban.leader.change", "oban.queue.control"])
    def test_changes_of_leader_and_queues_are_logged_at_info(self, name: str, log: Log) -> None:
        event_logger.attach("DEBUG", log[0])

        telemetry.execute(name, {"node": "web-1"})

        assert levels(log[1]) == [logging.INFO]

    def test_an_outage_is_told_at_growing_distances(self, log: Log) -> None:
        event_logger.attach(logger=log[0])
        for failures in range(1, 21):
            telemetry.execute("oban.stager.outage", {"failures": failures})

        records = log[1].records
        told = [at for at, record in enumerate(records, 1) if record.levelno == logging.WARNING]
        assert told == [1, 2, 4, 8, 16]
        assert {record.levelno for record in records} == {logging.WARNING, logging.DEBUG}

    @pytest.mark.parametrize("error", [DatabaseUnavailable, OutcomeUnknown, Contended])
    def test_a_loops_work_that_an_outage_ended_is_not_told_beside_the_outage(
        self, error: type[Exception], log: Log, job: AJob
    ) -> None:
        event_logger.attach(logger=log[0], events="*.exception")

        with pytest.raises(error), telemetry.span("oban.stager.stage"):
            raise error("away")
        with pytest.raises(error), telemetry.span("theirs.work"):
            raise error("away")
        told = {"error_type": error.__name__}
        telemetry.execute("oban.job.exception", {"job": job, **told})

        assert levels(log[1]) == [logging.DEBUG, logging.ERROR, logging.ERROR]

    def test_a_record_has_the_events_name_for_filters(self, log: Log) -> None:
        event_logger.attach(logger=log[0])

        telemetry.execute("oban.leader.change", {"leader": True})

        assert [vars(record)["oban_event"] for record in log[1].records] == ["oban.leader.change"]

    def test_other_events_of_ours_are_logged_at_info(self, log: Log) -> None:
        event_logger.attach("DEBUG", log[0])

        telemetry.execute("oban.signals.resync", {"reason": "reconnected"})
        telemetry.execute("theirs.event", {})

        assert levels(log[1]) == [logging.INFO]
        assert json.loads(log[1].lines[0])["reason"] == "reconnected"

    def test_nothing_is_rendered_below_the_loggers_level(self, log: Log) -> None:
        class Unseen:
            def __repr__(self) -> str:
                raise AssertionError("rendered")

        log[0].setLevel(logging.INFO)
        event_logger.attach(logger=log[0])

        with telemetry.span("oban.stager.stage", {"unseen": Unseen()}):
            pass

        assert log[1].records == []


class TestAttach:
    def test_lines_go_to_the_logger_named_oban_by_default(
        self, job: AJob, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "oban")
        event_logger.attach()
        try:
            telemetry.execute("oban.job.stop", {"job": job, **STOP})
        finally:
            event_logger.detach()

        assert [record.name for record in caplog.records] == ["oban"]
        assert json.loads(caplog.messages[0])["event"] == "oban.job.stop"

    def test_only_the_named_events_are_logged(self, log: Log, job: AJob) -> None:
        event_logger.attach(logger=log[0], events=["oban.job.stop"])

        telemetry.execute("oban.job.start", {"job": job})
        telemetry.execute("oban.job.stop", {"job": job})

        assert [json.loads(line)["event"] for line in log[1].lines] == ["oban.job.stop"]

    def test_attaching_again_replaces_the_settings(self, log: Log, job: AJob) -> None:
        event_logger.attach("WARNING", log[0])
        event_logger.attach("DEBUG", log[0])

        telemetry.execute("oban.job.start", {"job": job})

        assert levels(log[1]) == [logging.DEBUG]

    def test_detached_it_logs_no_more(self, log: Log, job: AJob) -> None:
        event_logger.attach(logger=log[0])

        assert event_logger.detach() is True
        telemetry.execute("oban.job.start", {"job": job})

        assert log[1].records == []
        assert event_logger.detach() is False

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"level": "LOUD"}, "'LOUD'.*WARNING"),
            ({"format": "xml"}, "'xml'.*'json'"),
            ({"events": []}, "empty"),
        ],
    )
    def test_an_option_it_does_not_know_is_an_error_that_lists_what_it_does(
        self, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            event_logger.attach(**options)

        assert not telemetry.listening("oban.job.start")

    def test_a_wrong_option_leaves_the_earlier_settings(self, log: Log, job: AJob) -> None:
        event_logger.attach(logger=log[0])
        with pytest.raises(ValueError):
            event_logger.attach(logger=log[0], events=[])

        telemetry.execute("oban.job.start", {"job": job})

        assert len(log[1].records) == 1


class TestFormat:
    def written(self, job: AJob, *streams: io.StringIO, **options: Any) -> list[str]:
        event_logger.attach(logger=logger_to(*streams), **options)
        try:
            telemetry.execute("oban.job.stop", {"job": job, **STOP})
        finally:
            event_logger.detach()
        return [stream.getvalue() for stream in streams]

    def test_a_terminal_gets_coloured_text(self, job: AJob) -> None:
        (line,) = self.written(job, Terminal())

        assert "\x1b[" in line
        assert re.sub(r"\x1b\[[0-9;]*m", "", line)[13:] == (
            "ok      mailers  app.MailerWorker #42 1/20  12.3 ms (waited 4.1 ms)\n"
        )

    def test_a_file_gets_json(self, job: AJob) -> None:
        (line,) = self.written(job, io.StringIO())

        assert json.loads(line)["id"] == 42

    def test_a_terminal_beside_a_file_gets_json_so_that_no_colour_ends_in_the_file(
        self, job: AJob
    ) -> None:
        for line in self.written(job, Terminal(), io.StringIO()):
            assert json.loads(line)["id"] == 42

    def test_text_can_be_had_in_a_file_without_colour(self, job: AJob) -> None:
        (line,) = self.written(job, io.StringIO(), format="text")

        assert line[13:].startswith("ok      mailers")
        assert "\x1b" not in line

    def test_json_can_be_had_on_a_terminal(self, job: AJob) -> None:
        (line,) = self.written(job, Terminal(), format="json")

        assert json.loads(line)["id"] == 42

    def test_no_color_is_heeded(self, job: AJob, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")

        (line,) = self.written(job, Terminal())

        assert not re.search(r"\x1b\[[0-9;]*3\dm", line)
        assert "ok " in line

    def test_a_parents_stream_counts_and_a_null_handler_does_not(self, job: AJob) -> None:
        terminal = Terminal()
        parent = logger_to(terminal)
        child = logging.Logger("child", logging.DEBUG)
        child.parent = parent
        child.addHandler(logging.NullHandler())

        event_logger.attach(logger=child)
        try:
            telemetry.execute("oban.job.stop", {"job": job, **STOP})
        finally:
            event_logger.detach()

        assert terminal.getvalue()[0] != "{"

    @pytest.mark.parametrize("state", ["closed", "none yet"])
    def test_a_stream_that_cannot_be_asked_is_no_terminal(
        self, state: str, log: Log, job: AJob
    ) -> None:
        stream = Terminal()
        log[0].handlers[0].stream = None if state == "none yet" else stream  # type: ignore[attr-defined]
        stream.isatty = io.StringIO().isatty  # type: ignore[method-assign]
        stream.close()

        event_logger.attach(logger=log[0])
        telemetry.execute("oban.job.stop", {"job": job, **STOP})

        assert log[1].lines[0][0] == "{"

    def test_args_are_logged_only_when_asked_for(self, log: Log, job: AJob) -> None:
        for args in (False, True):
            event_logger.attach(logger=log[0], args=args)
            telemetry.execute("oban.job.start", {"job": job})

        first, second = map(json.loads, log[1].lines)
        assert "args" not in first
        assert second["args"] == {"password": "hunter2"}


def test_colour_is_not_imported_until_a_terminal_needs_it() -> None:
    import subprocess
    import sys

    code = "import sys, oban.telemetry; print([m for m in sys.modules if m.startswith('rich')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
