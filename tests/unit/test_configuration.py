import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban.configuration import EMBEDDED, Configuration, load, mask_dsn
from oban.errors import ConfigurationError, InvalidOption
from oban.options import (
    LimitOptions,
    MetricsOptions,
    Options,
    PoolOptions,
    QueueOptions,
    RateLimitOptions,
    StagerOptions,
)
from oban.settings import KEYS, VARIABLES, parse_counts

Write: TypeAlias = Callable[..., Path]
SECRET = "postgresql://u:hunter2@h/db"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(text: str, name: str = "oban.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return to


def refusal(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    arguments: Mapping[str, object] | None = None,
) -> str:
    """The message of the error that this configuration is, where no other file is."""
    with tempfile.TemporaryDirectory() as empty, pytest.raises(ConfigurationError) as caught:
        load(path, environ or {}, arguments or {}, Path(empty))
    return str(caught.value)


class TestWhereFrom:
    def test_nothing_configured_is_all_defaults(self, tmp_path: Path) -> None:
        assert load(environ={}, cwd=tmp_path) == Configuration(
            dsn=None,
            options=Options(),
            pool=PoolOptions(),
            cron_modules=(),
            cron_paths=(),
            sources={},
            notices=(),
        )

    @pytest.mark.parametrize("header", ["", "[oban]\n"])
    def test_a_file_is_read_at_its_top_level_or_under_oban(
        self, write: Write, tmp_path: Path, header: str
    ) -> None:
        path = write(header + 'prefix = "mine"\nqueues = { mailers = 3 }\n')
        found = load(environ={}, cwd=tmp_path)
        assert found.options == Options(prefix="mine", queues={"mailers": QueueOptions(limit=3)})
        assert found.sources == {"prefix": str(path), "queues.mailers.limit": str(path)}
        assert found == load(path, {}, cwd=Path("/"))

    def test_pyproject_is_read_when_there_is_no_file_of_ours(
        self, write: Write, tmp_path: Path
    ) -> None:
        text = '[project]\nname = "app"\n[tool.oban.queues.mailers]\nlimit = 3\n'
        pyproject = write(text, "pyproject.toml")
        assert load(environ={}, cwd=tmp_path).options.queues == {"mailers": QueueOptions(limit=3)}
        assert load(pyproject, {}).options.queues == {"mailers": QueueOptions(limit=3)}
        write("")
        assert load(environ={}, cwd=tmp_path).options == Options()

    @pytest.mark.parametrize("text", ["", "tool = 5", "[tool.ruff]\nline-length = 100"])
    def test_a_pyproject_without_us_configures_nothing(
        self, write: Write, tmp_path: Path, text: str
    ) -> None:
        write(text, "pyproject.toml")
        assert load(environ={}, cwd=tmp_path).options == Options()

    def test_every_key_of_a_file_arrives(self, write: Write) -> None:
        path = write(
            """
            dsn = "postgresql://u:hunter2@h/db"
            name = "Other"
            node = "web-1"
            prefix = "mine"
            leadership = false
            shutdown_grace_period = 30
            cancel_grace_period = 2.5
            listen_dsn = "host=direct"
            worker_modules = ["app.workers"]
            cron_modules = ["app.cron"]
            cron_paths = ["crons"]
            pool_min_size = 2
            pool_max_size = 20
            pool_timeout = 3
            pool_max_lifetime = 300
            pool_max_idle = 60
            pool_check = true
            lifeline = {}
            metrics = false
            pruner = {}
            refresher = {}
            scheduler = {}
            process_pool_size = 4
            resources = { http = "app.resources:http" }
            [stager]
            interval = 0.5
            [queues]
            default = 10
            mailers = {}
            media = { limit = 5, paused = true, debounce_interval = 0.1 }
            """
        )
        found = load(path, {})
        assert found.dsn == SECRET
        assert found.dsn_source == str(path)
        assert found.options == Options(
            name="Other",
            node="web-1",
            prefix="mine",
            shutdown_grace_period=30,
            cancel_grace_period=2.5,
            listen_dsn="host=direct",
            leadership=False,
            worker_modules=("app.workers",),
            process_pool_size=4,
            resources={"http": "app.resources:http"},
            metrics=MetricsOptions(enabled=False),
            stager=StagerOptions(interval=0.5),
            queues={
                "default": QueueOptions(limit=10),
                "mailers": QueueOptions(),
                "media": QueueOptions(limit=5, paused=True, debounce_interval=0.1),
            },
        )
        assert found.pool == PoolOptions(
            min_size=2, max_size=20, timeout=3, max_lifetime=300, max_idle=60, check=True
        )
        assert (found.cron_modules, found.cron_paths) == (("app.cron",), ("crons",))

    def test_every_variable_arrives(self, tmp_path: Path) -> None:
        environ = {
            "OBAN_DSN": f" {SECRET}\n",
            "OBAN_QUEUES": "default:10, mailers",
            "OBAN_LIMITS": "openai:4",
            "OBAN_ENCRYPTION_KEYS": "one, two",
            "OBAN_PREFIX": "mine",
            "OBAN_NODE": "web-1",
            "OBAN_POOL_MIN_SIZE": "2",
            "OBAN_POOL_MAX_SIZE": "20",
            "OBAN_POOL_TIMEOUT": "3",
            "OBAN_POOL_MAX_LIFETIME": "300",
            "OBAN_POOL_MAX_IDLE": "6e1",
            "OBAN_POOL_CHECK": "Yes",
            "OBAN_CRON_MODULES": "app.a, app.b",
            "OBAN_CRON_PATHS": "crons",
            "OBAN_SHUTDOWN_GRACE_PERIOD": "30",
            "OBAN_CANCEL_GRACE_PERIOD": "2.5",
            "OBAN_LISTEN_DSN": "host=direct",
            "OBAN_WORKER_MODULES": "app.workers",
            "OBAN_LEADERSHIP": "no",
            "OBAN_PROCESS_POOL_SIZE": "4",
            "OBAN_METRICS": "true",
        }
        found = load(environ=environ, cwd=tmp_path)
        assert found.dsn == SECRET
        assert found.options == Options(
            node="web-1",
            prefix="mine",
            shutdown_grace_period=30,
            cancel_grace_period=2.5,
            listen_dsn="host=direct",
            leadership=False,
            worker_modules=("app.workers",),
            process_pool_size=4,
            queues={"default": QueueOptions(limit=10), "mailers": QueueOptions()},
            limits={"openai": LimitOptions(global_limit=4)},
            encryption_keys=("one", "two"),
            metrics=MetricsOptions(broadcast=True),
        )
        assert found.pool == PoolOptions(
            min_size=2, max_size=20, timeout=3, max_lifetime=300, max_idle=60, check=True
        )
        assert (found.cron_modules, found.cron_paths) == (("app.a", "app.b"), ("crons",))
        assert set(found.sources.values()) == set(environ) == set(VARIABLES)
        assert found.notices == ()

    def test_true_and_false_stand_for_what_they_say_of_a_table(self, write: Write) -> None:
        path = write("[metrics]\ninterval = 2\nbroadcast = true")
        assert load(path, {}).options.metrics == MetricsOptions(interval=2, broadcast=True)
        off = load(path, {"OBAN_METRICS": "off"}).options.metrics
        assert off == MetricsOptions(enabled=False, interval=2, broadcast=True)
        on = load(write("metrics = false"), {"OBAN_METRICS": "on"}).options.metrics
        assert on == MetricsOptions(broadcast=True)
        with pytest.raises(
            ConfigurationError, match="it is true, false or a table of enabled, int"
        ):
            load(write("metrics = 5"), {})

    def test_arguments_arrive_as_values_or_as_text(self, tmp_path: Path) -> None:
        arguments = {"queues": "default:4", "pool_min_size": 2, "cron_modules": ["a"], "node": None}
        found = load(environ={}, arguments=arguments, cwd=tmp_path)
        assert found.options == Options(queues={"default": QueueOptions(limit=4)})
        assert found.pool.min_size == 2
        assert found.cron_modules == ("a",)
        assert found.sources == {
            "queues.default.limit": "--queues",
            "pool_min_size": "--pool-min-size",
            "cron_modules": "--cron-modules",
        }

    def test_the_environment_of_the_process_is_the_default(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("OBAN_PREFIX", "mine")
        monkeypatch.chdir(tmp_path)
        assert load().options.prefix == "mine"

    def test_an_empty_variable_is_not_given(self, tmp_path: Path) -> None:
        environ = dict.fromkeys(VARIABLES, " ")
        assert load(environ=environ, cwd=tmp_path) == load(environ={}, cwd=tmp_path)

    def test_embedded_is_passed_through(self, tmp_path: Path) -> None:
        found = load(environ={"OBAN_DSN": EMBEDDED}, cwd=tmp_path)
        assert found.dsn == EMBEDDED
        assert found.dsn_source == "OBAN_DSN"
        assert mask_dsn(EMBEDDED) == EMBEDDED


class TestMerging:
    def test_later_wins_key_by_key(self, write: Write) -> None:
        path = write(
            'prefix = "file"\nnode = "file"\nname = "file"\n[stager]\ninterval = 2\nlimit = 5\n'
        )
        found = load(
            path,
            {"OBAN_PREFIX": "env", "OBAN_NODE": "env"},
            {"node": "argument", "stager": {"limit": 7}},
        )
        assert (found.options.name, found.options.prefix, found.options.node) == (
            "file",
            "env",
            "argument",
        )
        assert found.options.stager == StagerOptions(interval=2, limit=7)
        assert [found.sources[key] for key in ("name", "prefix", "node", "stager.limit")] == [
            str(path),
            "OBAN_PREFIX",
            "--node",
            "--stager",
        ]

    def test_a_limit_leaves_the_other_options_of_its_queue_and_other_queues_alone(
        self, write: Write
    ) -> None:
        path = write("[queues]\nmedia = { limit = 5, paused = true }\nmailers = 3\n")
        found = load(path, {"OBAN_QUEUES": "media:9,default:1"})
        assert found.options.queues == {
            "media": QueueOptions(limit=9, paused=True),
            "mailers": QueueOptions(limit=3),
            "default": QueueOptions(limit=1),
        }

    def test_a_queue_named_alone_keeps_the_limit_it_has(self, write: Write) -> None:
        path = write("[queues]\nmedia = 5\n")
        found = load(path, {}, {"queues": "media,default"})
        assert found.options.queues == {
            "media": QueueOptions(limit=5),
            "default": QueueOptions(),
        }

    @pytest.mark.parametrize(
        "text",
        [
            "[queues.media]\nrate_limit = { allowed = 60, period = 10 }",
            "[queues.media.rate_limit]\nallowed = 60\nperiod = 10",
        ],
    )
    def test_a_rate_is_read_whole(self, write: Write, text: str) -> None:
        """One half of it without the other says nothing."""
        found = load(write(f"{text}\n[limits.api]\nrate_limit = {{ allowed = 5, period = 1 }}\n"))
        assert found.options.queues["media"].rate_limit == RateLimitOptions(allowed=60, period=10)
        assert found.options.limits["api"].rate_limit == RateLimitOptions(allowed=5, period=1)

    def test_a_wrong_rate_is_named_with_its_line(self, write: Write) -> None:
        path = write("[queues.media]\nrate_limit = { allowed = 60, perod = 10 }\n")
        assert "oban.toml, line 2: queues.media.rate_limit.perod is not an option" in refusal(path)

    def test_a_list_is_replaced_whole(self, write: Write) -> None:
        path = write('cron_modules = ["a", "b"]\n')
        assert load(path, {"OBAN_CRON_MODULES": "c"}).cron_modules == ("c",)

    def test_a_minimum_above_a_default_maximum_is_fine_once_a_later_one_raises_it(
        self, write: Write
    ) -> None:
        found = load(write("pool_min_size = 20\n"), {"OBAN_POOL_MAX_SIZE": "30"})
        assert (found.pool.min_size, found.pool.max_size) == (20, 30)


SIZES = {"pool_min_size": st.integers(0, 5), "pool_max_size": st.integers(6, 20)}
QUEUES = st.dictionaries(
    st.sampled_from(["default", "mailers", "media"]),
    st.integers(1, 99) | st.none(),  # none: the queue is named alone
)
LAYER = st.fixed_dictionaries({}, optional={**SIZES, "queues": QUEUES})


def as_text(queues: Mapping[str, int | None]) -> str:
    return ",".join(name if limit is None else f"{name}:{limit}" for name, limit in queues.items())


@given(file=LAYER, environment=LAYER, arguments=LAYER)
def test_in_any_three_layers_the_last_that_gives_a_key_wins(
    file: dict[str, Any], environment: dict[str, Any], arguments: dict[str, Any]
) -> None:
    layers = (file, environment, arguments)
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{key} = {value}\n" for key, value in file.items() if key != "queues"]
        for name, limit in file.get("queues", {}).items():
            lines.append(
                f"queues.{name} = {{}}\n" if limit is None else f"queues.{name} = {limit}\n"
            )
        Path(folder, "oban.toml").write_text("".join(lines))
        found = load(
            environ={
                f"OBAN_{key.upper()}": as_text(value) if key == "queues" else str(value)
                for key, value in environment.items()
            },
            arguments={
                key: (as_text(value) or None) if key == "queues" else value
                for key, value in arguments.items()
            },
            cwd=Path(folder),
        )
    flat: dict[str, int] = {}
    limits: dict[str, int] = {}
    for layer in layers:
        flat |= {key: value for key, value in layer.items() if key != "queues"}
        for name, limit in layer.get("queues", {}).items():
            limits[name] = limits.get(name, QueueOptions().limit) if limit is None else limit
    assert found.pool.min_size == flat.get("pool_min_size", 1)
    assert found.pool.max_size == flat.get("pool_max_size", 10)
    assert {name: queue.limit for name, queue in found.options.queues.items()} == limits
    assert set(found.sources) >= set(flat)


NAMES = st.text(min_size=1, max_size=127).filter(
    lambda name: name == name.strip() and not set(name) & set(",:")
)


@given(st.dictionaries(NAMES, st.integers(0, 999_999_999) | st.none(), min_size=1))
def test_queues_written_as_text_are_read_back(queues: dict[str, int | None]) -> None:
    assert parse_counts("queues", as_text(queues)) == {
        name: {} if limit is None else {"limit": limit} for name, limit in queues.items()
    }


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", "''"),
        ("default:", "'default:'"),
        (":5", "':5'"),
        ("a:1,,b:2", "''"),
        ("a:1,", "''"),
        ("a:ten", "'a:ten'"),
        ("a:-1", "'a:-1'"),
        ("a:1.5", "'a:1.5'"),
        ("a:1_0", "'a:1_0'"),
        ("a:٣", "'a:٣'"),
        ("a:" + "9" * 5000, "'a:999"),
        ("a:1,a:2", "'a:2'"),
        ("a,a", "'a'"),
    ],
)
def test_queues_in_any_other_form_are_refused_with_the_place(text: str, at: str) -> None:
    with pytest.raises(InvalidOption, match="such as default:10,mailers:5") as caught:
        parse_counts("queues", text)
    assert f"wrong at {at}" in str(caught.value)


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('prefx = "x"', ", line 1: prefx is not an option (the nearest is prefix); there are"),
            ("# our\n[prunr]\nmax_age = 3", ", line 2: prunr is not an option (the nearest is pru"),
            ("[queues.media]\nlimt = 3", ", line 2: queues.media.limt is not an option (the near"),
            ("\nqueues = { media = { limt = 3 } }", ", line 2: queues.media.limt is not an option"),
            ("queues.media.limit = 0", ", line 1: queues.media.limit is 0; it is a whole number"),
            (
                "[queues]\nmedia = 0\nlimit = 4",
                ", line 2: queues.media.limit is 0; it is a whole number",
            ),
            ("[queues]\na = { limit = 0 }\nb = { limit = 1 }", ": queues.a.limit is 0; it is a"),
            ("pool_check = 1", ", line 1: pool_check is 1; it is true or false"),
            ("pool_min_size = true", ", line 1: pool_min_size is True; it is a whole number from"),
            ("pool_timeout = nan", ", line 1: pool_timeout is nan; it is a number of seconds from"),
            ("node = 2026-01-01", ", line 1: node is datetime.date(2026, 1, 1); it is text"),
            ("queues = 5", ", line 1: queues is 5; it is a table of names and their options"),
            ('cron_modules = "a"', ", line 1: cron_modules is 'a'; it is a list"),
            ("[pruner]\nmax_age = -1", ", line 2: pruner.max_age is -1; it is a number of seconds"),
            ("[limits]\na = 0", ", line 2: limits.a.global_limit is 0; it is a whole number from"),
            ("oban = 5", ": oban is 5; it is a table of options"),
            ("prefix =", " is not valid TOML: Invalid value (at end of document)"),
            ("prefix = 1 2\n", " is not valid TOML: Expected newline or end of document after a "),
            ("a = " + "[" * 5000, " is not valid TOML: "),
            ("a = " + "9" * 5000, " is not valid TOML: "),
        ],
    )
    def test_a_wrong_file_is_named_with_line_and_key(
        self, write: Write, text: str, message: str
    ) -> None:
        path = write(text)
        assert refusal(path).startswith(f"{path}{message}")

    def test_a_wrong_key_of_pyproject_is_found_too(self, write: Write) -> None:
        path = write("[tool.oban]\nprefx = 1\n", "pyproject.toml")
        assert refusal(path).startswith(f"{path}, line 2: prefx is not an option")

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("OBAN_POOL_MIN_SIZE", "abc", "pool_min_size is 'abc'; it is a whole number from 0"),
            ("OBAN_POOL_MIN_SIZE", "1.5", "pool_min_size is '1.5'; it is a whole number from 0"),
            ("OBAN_POOL_TIMEOUT", "inf", "pool_timeout is inf; it is a number of seconds from"),
            ("OBAN_POOL_CHECK", "maybe", "pool_check is 'maybe'; it is true or false"),
            ("OBAN_QUEUES", "a:b", "queues is 'a:b', wrong at 'a:b'; it is names and limits"),
            ("OBAN_QUEUES", "a:0", "queues.a.limit is 0; it is a whole number from 1"),
            ("OBAN_PREFIX", "p" * 41, f"prefix is '{'p' * 41}'; it is text of 1 to 40 bytes"),
            ("OBAN_CRON_MODULES", "a,,b", "cron_modules[1] is ''; it is text"),
        ],
    )
    def test_a_wrong_variable_is_named(self, name: str, text: str, message: str) -> None:
        assert refusal(environ={name: text}).startswith(f"{name}: {message}")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"queues": "a:b"}, "--queues: queues is 'a:b', wrong at 'a:b'"),
            ({"pool_min_size": -1}, "--pool-min-size: pool_min_size is -1; it is a whole number"),
            ({"nod": "x"}, "--nod: nod is not an option (the nearest is node)"),
            ({"node": ""}, "--node: node is ''; it is text of 1 to 255 bytes"),
        ],
    )
    def test_a_wrong_argument_is_named(self, arguments: dict[str, object], message: str) -> None:
        assert refusal(arguments=arguments).startswith(message)

    def test_values_that_do_not_go_together_are_named_with_their_sources(
        self, write: Write
    ) -> None:
        path = write("pool_max_size = 2\n")
        assert refusal(path, {"OBAN_POOL_MIN_SIZE": "5"}) == (
            "pool_min_size is 5 and pool_max_size is 2; the first is at most the second; "
            f"pool_max_size is from {path}; pool_min_size is from OBAN_POOL_MIN_SIZE"
        )

    def test_a_file_that_is_named_must_exist(self, tmp_path: Path) -> None:
        missing = tmp_path / "none.toml"
        assert refusal(missing) == f"{missing} does not exist; give the path of a TOML file"

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        assert refusal(tmp_path).startswith(f"{tmp_path} cannot be read: ")
        binary = tmp_path / "oban.toml"
        binary.write_bytes(b"\xff\xfe")
        assert refusal(binary).startswith(f"{binary} cannot be read: ")

    @pytest.mark.parametrize("key", ["dsn", "listen_dsn"])
    @pytest.mark.parametrize(
        "value",
        [
            "postgresql://u:hunter2%@h/db",
            "postgresql+psycopg://u:hunter2@h/db",
            "hunter2",
            ["hunter2"],
        ],
    )
    def test_a_wrong_dsn_is_refused_without_being_quoted(
        self, write: Write, key: str, value: object
    ) -> None:
        message = refusal(write(f"{key} = {json.dumps(value)}"))
        assert f"oban.toml, line 1: {key} is " in message
        assert "hunter2" not in message

    def test_only_the_database_itself_can_be_embedded(self) -> None:
        message = refusal(environ={"OBAN_LISTEN_DSN": EMBEDDED})
        assert message.startswith("OBAN_LISTEN_DSN: listen_dsn is not a connection string")


class TestNotices:
    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("OBAN_QUEUE", "OBAN_QUEUES"),
            ("OBAN_DNS", "OBAN_DSN"),
            ("OBAN_PREFX", "OBAN_PREFIX"),
            ("OBAN_POOL_MINSIZE", "OBAN_POOL_MIN_SIZE"),
        ],
    )
    def test_a_variable_that_is_almost_ours_is_told(
        self, tmp_path: Path, name: str, nearest: str
    ) -> None:
        found = load(environ={name: "hunter2"}, cwd=tmp_path)
        assert found.notices == (f"{name} is not read; did you mean {nearest}?",)
        assert found.sources == {}

    def test_other_variables_are_none_of_our_business(self, tmp_path: Path) -> None:
        environ = {"OBAN_TEST_DSN": "x", "OBAN_LICENSE_KEY": "x", "DSN": "x", "OBAN_": "x"}
        assert load(environ=environ, cwd=tmp_path).notices == ()

    def test_keys_beside_our_table_are_told_when_they_look_like_ours(self, write: Write) -> None:
        path = write('queus = 1\ntitle = "app"\n[oban]\nprefix = "mine"\n[stager]\nlimit = 1\n')
        found = load(path, {})
        assert found.options == Options(prefix="mine")
        assert [notice.split(": ")[1].split()[0] for notice in found.notices] == ["queus", "stager"]


def test_the_repr_of_a_configuration_shows_no_password(tmp_path: Path) -> None:
    environ = {"OBAN_DSN": SECRET, "OBAN_LISTEN_DSN": SECRET}
    found = load(environ=environ, cwd=tmp_path)
    assert found.dsn == found.options.listen_dsn == SECRET
    assert "hunter2" not in repr(found)


def test_every_key_of_the_contract_is_one_of_ours() -> None:
    contract = (
        "dsn name node prefix leadership queues lifeline metrics pruner refresher scheduler stager "
        "pool_min_size pool_max_size pool_timeout pool_max_lifetime pool_max_idle pool_check "
        "shutdown_grace_period cancel_grace_period listen_dsn worker_modules limits "
        "cron_modules cron_paths process_pool_size resources hooks "
        "encryption_keys"
    )
    assert set(KEYS) == set(contract.split())
