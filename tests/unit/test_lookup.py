import importlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oban.errors import InvalidOption, UnknownWorker
from oban.job import Job
from oban.lookup import Discovery, WorkerFinder, discover, import_all
from oban.lookup.finder import REMEMBERED, REMEMBERED_FOR
from oban.worker import Worker, forget, registered, worker

#: A module that says it was imported, in a file beside the one it is in.
LOUD = """
from pathlib import Path
from oban.worker import worker, job

Path(__file__).with_suffix(".imported").touch()

@worker
class Mailer:
    def process(self, job): return "mail"

@job
def send(): return "sent"

class Idle:
    def process(self, job): return "idle"
"""


class Disk:
    """A folder of modules on `sys.path`, each telling whether it was imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, path: str, source: str = LOUD) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        importlib.invalidate_caches()
        return file

    def imported(self) -> set[str]:
        return {
            str(each.relative_to(self.folder).with_suffix(".py"))
            for each in self.folder.rglob("*.imported")
        }


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """`app` is the application's root; it and `beside` are on `sys.path`."""
    workers, modules = set(registered()), set(sys.modules)
    for name in ("app", "beside"):
        (tmp_path / name).mkdir()
        monkeypatch.syspath_prepend(tmp_path / name)
    monkeypatch.chdir(tmp_path / "app")
    yield Disk(tmp_path)
    for name in set(registered()) - workers:
        forget(name)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def refusal(finder: WorkerFinder, name: str) -> str:
    with pytest.raises(UnknownWorker) as caught:
        finder.find(name)
    return str(caught.value)


# The registry comes first


def test_a_registered_worker_is_found_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    @worker
    class Local(Worker):
        def process(self, job: Job) -> None: ...

    def search(*args: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(PathFinder, "find_spec", search)
    name = Local.new().worker
    assert WorkerFinder().find(name).name == name
    forget(name)
    assert "is unknown: it is not registered" in refusal(WorkerFinder(), name)


# Under the application's root


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("app/jobs_a.py", "jobs_a.Mailer"),
        ("app/jobs_b.py", "jobs_b.send"),
        ("app/pack_c/__init__.py", "pack_c.Mailer"),
        ("app/space_d/deep/jobs.py", "space_d.deep.jobs.Mailer"),
    ],
)
def test_a_module_under_the_root_is_imported(disk: Disk, file: str, name: str) -> None:
    disk.write(file)
    found = WorkerFinder().find(name)
    assert found.name == name
    assert found.call(Job(worker=name)) in ("mail", "sent")
    assert disk.imported() == {file}


def test_the_longest_module_of_the_name_is_imported(disk: Disk) -> None:
    disk.write("app/pack_e/__init__.py")
    disk.write("app/pack_e/inner/__init__.py")
    disk.write("app/pack_e/inner/jobs.py")
    disk.write("app/pack_e/inner/other.py")
    assert WorkerFinder().find("pack_e.inner.jobs.Mailer").name == "pack_e.inner.jobs.Mailer"
    assert disk.imported() == {
        "app/pack_e/__init__.py",
        "app/pack_e/inner/__init__.py",
        "app/pack_e/inner/jobs.py",
    }


def test_a_nested_class_is_found_in_its_module(disk: Disk) -> None:
    source = (
        LOUD + "\nclass Outer:\n    @worker\n    class Inner:\n        process = Idle.process\n"
    )
    disk.write("app/jobs_f.py", source)
    assert WorkerFinder().find("jobs_f.Outer.Inner").name == "jobs_f.Outer.Inner"


def test_the_root_is_the_given_folder_when_one_is_given(disk: Disk) -> None:
    disk.write("app/jobs_g.py")
    disk.write("beside/jobs_h.py")
    finder = WorkerFinder(app_dir=disk.folder / "beside")
    assert "jobs_g lies at" in refusal(finder, "jobs_g.Mailer")
    assert finder.find("jobs_h.Mailer").name == "jobs_h.Mailer"


def test_the_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="which is no folder"):
        WorkerFinder(app_dir=tmp_path / "missing")


# What a row must not import


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "antigravity.X",
        "antigravity.fly.X",
        "this.s",
        "lib2to3.main.main",
        "pip.main",
        "pip._internal.cli.main.main",
        "idlelib.idle.X",
        "builtins.eval",
        "sys.exit",
        "__main__.X",
        "__hello__.X",
        "importlib.import_module",
        "os.path.join",
        "nowhere.to.be.found",
    ],
)
def test_a_row_imports_nothing_outside_of_the_root(disk: Disk, name: str) -> None:
    before = set(sys.modules)
    reason = refusal(WorkerFinder(), name)
    assert name in reason
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..x",
        "x..y",
        ".x.y",
        "x.y.",
        "Mailer",
        "a" * 127,
        "a" * 128,
        ".".join("a" * 64),
        "a b.c",
        "a/b.c",
        "../beside/jobs.X",
        "jobs.X\n",
        "jobs\0.X",
        "jobs.\ud800",
        "jobs.import",
        "1.2",
        "a.<locals>.B",
        "\u2019.\u201c",
        "MyApp.Workers.Mailer!",
        "ﬀ.ﬁ",
    ],
)
def test_odd_names_are_unknown_and_nothing_more(disk: Disk, name: str) -> None:
    disk.write("app/jobs.py")
    assert "unknown" in refusal(WorkerFinder(), name)
    assert disk.imported() == set()


FINDER = WorkerFinder()


@given(st.text() | st.lists(st.text(max_size=9), max_size=9).map(".".join))
def test_any_text_is_a_worker_or_unknown(name: str) -> None:
    before = set(sys.modules)
    try:
        FINDER.find(name)
    except UnknownWorker:
        assert set(sys.modules) == before
    else:
        assert name in registered()


def test_a_module_beside_the_root_is_not_imported(disk: Disk) -> None:
    disk.write("beside/jobs_i.py")
    reason = refusal(WorkerFinder(), "jobs_i.Mailer")
    assert f"jobs_i lies at {disk.folder}/beside/jobs_i.py" in reason
    assert "name it in worker_modules" in reason
    assert disk.imported() == set()
    importlib.import_module("jobs_i")
    assert disk.imported() == {"beside/jobs_i.py"}  # the marker works


def test_no_parent_outside_of_the_root_is_imported_for_a_module_inside(disk: Disk) -> None:
    disk.write("beside/pack_j/__init__.py")
    disk.write("app/inside/jobs.py")
    (disk.folder / "beside/pack_j/inside").symlink_to(disk.folder / "app/inside")
    assert "pack_j lies at" in refusal(WorkerFinder(), "pack_j.inside.jobs.Mailer")
    assert "pack_j lies at" in refusal(WorkerFinder(), "pack_j.missing.Mailer")
    assert disk.imported() == set()


def test_links_are_followed_before_the_place_is_judged(disk: Disk) -> None:
    disk.write("beside/hidden_k/jobs.py")
    disk.write("app/real_k/jobs.py")
    (disk.folder / "app/outward").symlink_to(disk.folder / "beside/hidden_k")
    (disk.folder / "app/outward_file.py").symlink_to(disk.folder / "beside/hidden_k/jobs.py")
    (disk.folder / "beside/inward").symlink_to(disk.folder / "app/real_k")
    finder = WorkerFinder()
    assert "beside/hidden_k/jobs.py" in refusal(finder, "outward.jobs.Mailer")
    assert "beside/hidden_k/jobs.py" in refusal(finder, "outward_file.Mailer")
    assert finder.find("inward.jobs.Mailer").name == "inward.jobs.Mailer"


def test_a_root_that_is_a_link_is_the_folder_it_points_to(disk: Disk) -> None:
    disk.write("app/jobs_l.py")
    (disk.folder / "current").symlink_to(disk.folder / "app")
    finder = WorkerFinder(app_dir=disk.folder / "current")
    assert finder.find("jobs_l.Mailer").name == "jobs_l.Mailer"


@pytest.mark.parametrize(
    "folder",
    ["site-packages", "dist-packages", ".hidden", "node_modules", "lib/site-packages", ".v/lib"],
)
def test_installed_and_hidden_code_under_the_root_is_not_the_applications(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    disk.write(f"app/{folder}/jobs_m.py")
    disk.write(f"app/{folder}/pack_m/jobs.py")
    monkeypatch.syspath_prepend(disk.folder / "app" / folder)
    finder = WorkerFinder()
    assert "is unknown: jobs_m lies at" in refusal(finder, "jobs_m.Mailer")
    assert "is unknown: pack_m.jobs lies at" in refusal(finder, "pack_m.jobs.Mailer")
    assert disk.imported() == set()


@pytest.mark.parametrize("prefix", ["prefix", "base_prefix", "exec_prefix", "base_exec_prefix"])
def test_python_itself_under_the_root_is_not_the_applications(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    disk.write("app/env/share/jobs_n.py")
    monkeypatch.setattr(sys, prefix, str(disk.folder / "app/env"))
    monkeypatch.syspath_prepend(disk.folder / "app/env/share")
    assert "jobs_n lies at" in refusal(WorkerFinder(), "jobs_n.Mailer")
    assert disk.imported() == set()


def test_an_application_inside_the_prefix_of_python_has_files_of_its_own(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write("app/jobs_o.py")
    monkeypatch.setattr(sys, "prefix", str(disk.folder))
    assert WorkerFinder().find("jobs_o.Mailer").name == "jobs_o.Mailer"


def test_the_standard_library_is_not_the_applications_even_from_the_root_of_the_disk() -> None:
    finder = WorkerFinder(app_dir=Path("/"))
    before = set(sys.modules)
    for name in ("antigravity.X", "idlelib.idle.X", "pip.main"):
        assert "lies at" in refusal(finder, name)
    assert set(sys.modules) == before


def test_the_running_program_is_not_imported_again(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = disk.write("app/program_p.py")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(file), raising=False)
    for finder in (WorkerFinder(), WorkerFinder(worker_modules=["program_p"])):
        assert "the running program itself" in refusal(finder, "program_p.Mailer")
    assert disk.imported() == set()


# What the import finds


def test_what_is_not_decorated_is_no_worker(disk: Disk) -> None:
    disk.write("app/jobs_q.py")
    finder = WorkerFinder()
    for name in ("jobs_q.Idle", "jobs_q.Missing", "jobs_q.Path", "jobs_q.Mailer.process"):
        assert f"{name} is no worker: jobs_q is imported" in refusal(finder, name)
    assert finder.find("jobs_q.Mailer").name == "jobs_q.Mailer"


def test_a_namespace_package_holds_no_worker(disk: Disk) -> None:
    (disk.folder / "app/space_r/inner").mkdir(parents=True)
    assert "no module space_r" in refusal(WorkerFinder(), "space_r.inner.X")
    disk.write("app/pack_r/__init__.py")
    (disk.folder / "app/pack_r/inner").mkdir()
    assert "pack_r is imported" in refusal(WorkerFinder(), "pack_r.inner.X")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("raise RuntimeError('broken')", "raised RuntimeError: broken"),
        ("import sys; sys.exit(3)", "raised SystemExit: 3"),
        ("def", "raised SyntaxError"),
        ("import missing_module", "raised ModuleNotFoundError: No module named"),
    ],
)
def test_an_import_that_fails_is_told_with_its_cause(disk: Disk, line: str, words: str) -> None:
    disk.write("app/jobs_s.py", line)
    with pytest.raises(UnknownWorker, match=words) as caught:
        WorkerFinder().find("jobs_s.Mailer")
    assert caught.value.__cause__ is not None


def test_an_import_that_fails_is_not_tried_for_every_row(disk: Disk) -> None:
    count = disk.folder / "count"
    disk.write(
        "app/jobs_t.py",
        f"with open({str(count)!r}, 'a') as file: file.write('x')\nraise OSError('down')\n",
    )
    now = 0.0
    finder = WorkerFinder(clock=lambda: now)
    for number in range(50):
        assert "raised OSError: down" in refusal(finder, f"jobs_t.Worker{number}")
    assert count.read_text() == "x"
    now = REMEMBERED_FOR
    assert "jobs_t.Worker0 is unknown" in refusal(finder, "jobs_t.Worker0")
    assert count.read_text() == "xx"


# Packages of workers that are imported


def test_the_package_of_an_imported_worker_may_be_imported_from(disk: Disk) -> None:
    disk.write("beside/site-packages/pack_u/__init__.py", "")
    disk.write("beside/site-packages/pack_u/jobs.py")
    disk.write("beside/site-packages/pack_u/more/jobs.py")
    disk.write("beside/site-packages/other_u/jobs.py")
    sys.path.insert(0, str(disk.folder / "beside/site-packages"))
    finder = WorkerFinder(clock=iter(range(0, 10_000, 60)).__next__)
    try:
        assert "lies at" in refusal(finder, "pack_u.more.jobs.Mailer")
        importlib.import_module("pack_u")
        assert "lies at" in refusal(finder, "pack_u.more.jobs.Mailer")
        importlib.import_module("pack_u.jobs")
        assert finder.find("pack_u.more.jobs.Mailer").name == "pack_u.more.jobs.Mailer"
        assert "lies at" in refusal(finder, "other_u.jobs.Mailer")
    finally:
        sys.path.remove(str(disk.folder / "beside/site-packages"))


def test_a_namespace_shared_with_a_worker_opens_no_package_of_others(disk: Disk) -> None:
    disk.write("beside/space_v/ours/__init__.py")
    disk.write("beside/space_v/ours/more.py")
    disk.write("beside/space_v/theirs/__init__.py")
    importlib.import_module("space_v.ours")
    finder = WorkerFinder()
    assert finder.find("space_v.ours.more.Mailer").name == "space_v.ours.more.Mailer"
    assert "lies at" in refusal(finder, "space_v.theirs.Mailer")


def test_a_link_out_of_the_package_of_a_worker_is_not_followed(disk: Disk) -> None:
    disk.write("beside/pack_w/__init__.py")
    target = disk.write("beside/elsewhere_w.py")
    (disk.folder / "beside/pack_w/link.py").symlink_to(target)
    importlib.import_module("pack_w")
    assert "elsewhere_w.py" in refusal(WorkerFinder(), "pack_w.link.Mailer")


# worker_modules


def test_worker_modules_narrow_and_widen_what_may_be_imported(disk: Disk) -> None:
    for file in ("app/jobs_x.py", "app/pack_x/jobs.py", "app/pack_xy/jobs.py"):
        disk.write(file)
    disk.write("beside/installed_x/__init__.py", "")
    disk.write("beside/installed_x/jobs.py")
    finder = WorkerFinder(worker_modules=["pack_x", "installed_x.jobs"])
    assert finder.find("pack_x.jobs.Mailer").name == "pack_x.jobs.Mailer"
    assert finder.find("installed_x.jobs.Mailer").name == "installed_x.jobs.Mailer"
    for name in ("jobs_x.Mailer", "pack_xy.jobs.Mailer"):
        assert "is not among worker_modules (pack_x, installed_x.jobs)" in refusal(finder, name)
    assert disk.imported() == {"app/pack_x/jobs.py", "beside/installed_x/jobs.py"}


def test_no_worker_modules_at_all_means_the_registry_alone(disk: Disk) -> None:
    disk.write("app/jobs_y.py")
    assert "not among worker_modules" in refusal(WorkerFinder(worker_modules=[]), "jobs_y.Mailer")
    assert disk.imported() == set()


@pytest.mark.parametrize("wrong", ["app.workers", ["app.workers", "a-b"], ["../x"], [""]])
def test_worker_modules_are_a_list_of_modules(wrong: Any) -> None:
    with pytest.raises(InvalidOption, match="it is a list of modules or packages"):
        WorkerFinder(worker_modules=wrong)


# Negative answers are remembered


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the disk was searched."""
    calls: list[str] = []
    real = PathFinder.find_spec

    def counting(name: str, *args: Any) -> Any:
        calls.append(name)
        return real(name, *args)

    monkeypatch.setattr(PathFinder, "find_spec", counting)
    return lambda: len(calls)


def test_a_flood_of_unknown_rows_costs_one_search(disk: Disk, searches: Callable[[], int]) -> None:
    disk.write("beside/jobs_z.py")
    finder = WorkerFinder()
    for _ in range(5_000):
        for name in ("missing_z.Worker", "jobs_z.Mailer"):
            with pytest.raises(UnknownWorker):
                finder.find(name)
    assert searches() == 2


def test_a_negative_answer_is_remembered_for_a_while_only(
    disk: Disk, searches: Callable[[], int]
) -> None:
    now = 100.0
    finder = WorkerFinder(clock=lambda: now)
    refusal(finder, "jobs_late.Mailer")
    disk.write("app/jobs_late.py")
    refusal(finder, "jobs_late.Mailer")
    assert searches() == 1
    now += REMEMBERED_FOR
    assert finder.find("jobs_late.Mailer").name == "jobs_late.Mailer"


def test_a_worker_registered_meanwhile_is_found_at_once(disk: Disk) -> None:
    finder = WorkerFinder()
    disk.write("beside/jobs_aa.py")
    refusal(finder, "jobs_aa.Mailer")
    importlib.import_module("jobs_aa")
    assert finder.find("jobs_aa.Mailer").name == "jobs_aa.Mailer"


def test_what_is_remembered_is_bounded(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert REMEMBERED <= 10_000
    monkeypatch.setattr("oban.lookup.finder.REMEMBERED", 100)
    finder = WorkerFinder()
    most = 0
    for number in range(205):
        with pytest.raises(UnknownWorker):
            finder.find(f"missing.Worker{number}")
        most = max(most, len(finder.unknown.reasons))
    assert most == 100


def test_huge_names_are_refused_without_being_remembered() -> None:
    finder = WorkerFinder()
    assert len(refusal(finder, "a." * 1_000_000)) < 200
    assert not finder.unknown.reasons


# Discovery


def sources(disk: Disk, *paths: str) -> None:
    for path in paths:
        disk.write(path)


def test_discovery_finds_the_modules_that_use_the_decorators_and_imports_none(disk: Disk) -> None:
    sources(disk, "app/one.py", "app/pack/__init__.py", "app/pack/two.py", "app/space/deep/x.py")
    disk.write("app/pack/none.py", "import oban\nfrom oban.worker import worker\n")
    disk.write("app/other.py", "from celery import worker\n@worker\nclass A: ...  # no oban\n")
    found = discover()
    assert found == Discovery(modules=["one", "pack", "pack.two", "space.deep.x"], skipped={})
    assert disk.imported() == set()
    assert discover(disk.folder / "app") == found


@pytest.mark.parametrize(
    "source",
    [
        "from oban import worker\n@worker\nclass A: ...",
        "from oban import worker as w\n@w(queue='x')\nclass A: ...",
        "import oban\n@oban.job\ndef f(): ...",
        "import oban as o\n@o.job(queue='x')\nasync def f(): ...",
        "import oban.worker\n@oban.worker.job()\ndef f(): ...",
        "import oban.worker as w\n@w.worker\nclass A: ...",
        "from oban.worker import job\n@other\n@job()\ndef f(): ...",
        "from oban import *\n@job\ndef f(): ...",
        "try:\n  from oban import job\nfinally:\n  @job\n  def f(): ...",
        "from oban import worker\nclass Outer:\n  @worker\n  class A: ...",
        "# coding: latin-1\n# \xe9\nfrom oban import job\n@job\ndef f(): ...",
    ],
)
def test_a_decorator_is_recognised_by_any_name_it_was_imported_under(
    disk: Disk, source: str
) -> None:
    (disk.folder / "app/found.py").write_bytes(source.encode("latin-1"))
    assert discover().modules == ["found"]


@pytest.mark.parametrize(
    "source",
    [
        "import oban\nfrom celery import job\n@job\ndef f(): ...",
        "from .oban import job\n@job\ndef f(): ...",
        "from app import oban\n@oban.job\ndef f(): ...",
        "@oban.job\ndef f(): ...",
        "from oban import Oban\n@Oban.job\ndef f(): ...",
        "from oban import job\ndef make():\n  @job\n  def f(): ...",
        "from oban import job\nclass A:\n  def make(self):\n    @job\n    def f(): ...",
        "'''from oban import job\n@job\ndef f(): ...'''",
        "from obanish import job\n@job\ndef f(): ...",
        "from oban import job\n@(lambda x: x)\ndef f(): ...",
    ],
)
def test_what_importing_would_not_make_a_worker_is_not_found(disk: Disk, source: str) -> None:
    disk.write("app/quiet.py", source)
    assert discover() == Discovery(modules=[], skipped={})


def test_discovery_leaves_out_installed_hidden_and_linked_code(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources(
        disk,
        "app/mine.py",
        "app/.hidden/a.py",
        "app/.file.py",
        "app/node_modules/a.py",
        "app/venv/lib/site-packages/a.py",
        "app/dist-packages/a.py",
        "app/__pycache__/a.py",
        "app/env/bin/a.py",
        "beside/outside/a.py",
    )
    (disk.folder / "app/linked").symlink_to(disk.folder / "beside/outside")
    (disk.folder / "app/linked.py").symlink_to(disk.folder / "beside/outside/a.py")
    (disk.folder / "app/again.py").symlink_to(disk.folder / "app/mine.py")
    (disk.folder / "app/loop").symlink_to(disk.folder / "app")
    monkeypatch.setattr(sys, "prefix", str(disk.folder / "app/env"))
    assert discover() == Discovery(modules=["mine"], skipped={})


def test_a_src_layout_yields_each_module_once(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    sources(disk, "app/src/pack_ab/jobs.py", "app/scripts/jobs_ab.py")
    assert discover().modules == ["scripts.jobs_ab", "src.pack_ab.jobs"]
    monkeypatch.syspath_prepend(disk.folder / "app/src")
    assert discover().modules == ["pack_ab.jobs", "scripts.jobs_ab"]
    sys.path.remove(str(disk.folder / "app/src"))
    sys.path.append(str(disk.folder / "app/src"))
    assert discover().modules == ["pack_ab.jobs", "scripts.jobs_ab"]


def test_files_that_cannot_be_used_are_reported(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources(disk, "app/good.py", "app/my-jobs.py", "app/my-folder/jobs.py", "app/antigravity.py")
    disk.write("app/broken.py", "import oban\ndef (")
    disk.write("app/nul.py", "import oban\n\0")
    disk.write("app/deep.py", "import oban\nx = " + "(" * 5000 + ")" * 5000)
    (disk.folder / "app/coding.py").write_bytes(b"# coding: none\nimport oban\n")
    app = str(disk.folder / "app")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != app] + [app])
    found = discover()
    assert found.modules == ["good"]
    reasons = {Path(file).relative_to(app).as_posix(): why for file, why in found.skipped.items()}
    assert set(reasons) == {
        "my-jobs.py",
        "my-folder/jobs.py",
        "antigravity.py",
        "broken.py",
        "nul.py",
        "deep.py",
        "coding.py",
    }
    assert reasons["my-jobs.py"] == "no folder of sys.path gives it a module name"
    assert reasons["antigravity.py"].startswith("importing antigravity would import /")
    assert "it cannot be read as Python: invalid syntax" in reasons["broken.py"]


def test_an_unreadable_file_is_reported(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    file = disk.write("app/unreadable.py")

    def refused(path: Path) -> bytes:  # root, as in a container, could read it whatever its mode
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert "Permission denied" in discover().skipped[str(file)]


def test_a_pipe_named_like_a_module_is_left_alone(disk: Disk) -> None:
    os.mkfifo(disk.folder / "app/pipe.py")
    assert discover() == Discovery()


def test_a_warning_about_a_foreign_file_is_not_ours_to_give(disk: Disk) -> None:
    disk.write("app/escapes.py", LOUD + "\nx = '\\d'\n")
    assert discover().modules == ["escapes"]


def test_discovery_among_given_modules_goes_wherever_they_lie(disk: Disk) -> None:
    sources(disk, "app/mine_ac.py", "beside/pack_ac/jobs.py", "beside/pack_ac/sub/more.py")
    disk.write("beside/pack_ac/__init__.py", "")
    disk.write("beside/pack_ac/plain.py", "x = 1")
    disk.write("beside/plain_ac.py", "x = 1")
    found = discover(modules=["pack_ac", "plain_ac", "missing_ac", "pack_ac.nope"])
    assert found.modules == ["pack_ac", "pack_ac.jobs", "pack_ac.sub.more", "plain_ac"]
    assert set(found.skipped) == {"missing_ac", "pack_ac.nope"}
    assert discover(modules=["pack_ac.sub"]).modules == ["pack_ac.sub", "pack_ac.sub.more"]
    assert disk.imported() == set()


def test_import_all_imports_what_was_found_and_returns_what_failed(disk: Disk) -> None:
    sources(disk, "app/jobs_ad.py", "app/pack_ad/jobs.py")
    disk.write("app/bad_ad.py", LOUD + "\nraise RuntimeError('no')\n")
    disk.write("app/exit_ad.py", LOUD + "\nraise SystemExit(2)\n")
    failures = import_all(discover().modules)
    assert {name: type(error) for name, error in failures.items()} == {
        "bad_ad": RuntimeError,
        "exit_ad": SystemExit,
    }
    assert {"jobs_ad.Mailer", "jobs_ad.send", "pack_ad.jobs.Mailer"} <= set(registered())
