"""Where the binaries come from, and what is said where there are none."""

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.embedded.conftest import Spawn

from oban import embedded
from oban.embedded import program
from oban.embedded.account import server_account
from oban.embedded.program import WHEEL, locate
from oban.errors import EmbeddedError


def test_without_the_wheel_the_error_names_the_extra(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, WHEEL, None)  # as the import system says "there is none"
    with pytest.raises(EmbeddedError, match=r"pip install 'oban\[embedded\]'"):
        embedded.start(base / "server")
    assert list(base.iterdir()) == []


def test_a_broken_wheel_is_told_from_a_missing_one(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / WHEEL).mkdir()
    (base / WHEEL / "__init__.py").touch()
    monkeypatch.syspath_prepend(base)
    with pytest.raises(EmbeddedError, match=r"has no PostgreSQL 18 .*--force-reinstall"):
        locate()


def test_platforms_without_binaries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(EmbeddedError, match=r"this is Windows: .*OBAN_DSN"):
            embedded.start()
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "x86_64-pc-linux-musl")
    with pytest.raises(EmbeddedError, match=r"musl, such as Alpine: .*OBAN_DSN"):
        embedded.start()


@pytest.mark.parametrize("version", ["17", "eighteen", "-1"])
def test_a_version_the_wheel_does_not_carry_is_refused(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSERVER_POSTGRES_VERSION", version)
    with pytest.raises(EmbeddedError, match=f"is {version!r}; .* comes as 16 and 18"):
        locate()


def test_the_code_of_the_wheel_is_never_run(spawn: Spawn) -> None:
    code = f"""
import sys
from oban.embedded.program import locate
print(locate().major, {WHEEL!r} in sys.modules)
"""
    assert spawn(code).communicate(timeout=20) == ("18 False\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a copy of the binaries")
def test_root_copies_the_binaries_once_for_every_account_to_use(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "system_home", lambda: base / "home")
    account = server_account(base / "none")
    assert account is not None
    (base / "home" / "binaries" / ".copying-interrupted").mkdir(parents=True)
    old_mask = os.umask(0o077)
    try:
        with ThreadPoolExecutor(3) as pool:
            first, *others = pool.map(lambda _: locate().usable_by(account), range(3))
    finally:
        os.umask(old_mask)
    assert others == [first, first]
    copies = [path.name for path in (base / "home" / "binaries").iterdir()]
    assert len(copies) == 2
    assert any(name.startswith("postgresql-18-") for name in copies)

    for tool in ("postgres", "initdb"):  # initdb needs a library of the wheel
        done = subprocess.run(
            [first.binary(tool), "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        assert "(PostgreSQL) 18." in done.stdout
    inode = first.binary("postgres").stat().st_ino
    assert locate().usable_by(account).binary("postgres").stat().st_ino == inode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a copy of the binaries")
def test_an_upgraded_wheel_gets_a_copy_of_its_own(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = base / "site" / WHEEL / "pginstall18"
    (install / "bin").mkdir(parents=True)
    (base / "site" / WHEEL / "__init__.py").touch()
    monkeypatch.syspath_prepend(base / "site")
    monkeypatch.setattr(program, "system_home", lambda: base / "home")
    account = server_account(base / "none")
    copies = []
    for content in ("old", "new", "old"):
        (install / "bin" / "postgres").write_text(content)
        copy = locate().usable_by(account)
        assert copy.binary("postgres").read_text() == content
        copies.append(copy)
    assert copies[0] == copies[2] != copies[1]
    assert copies[0].binary("postgres").read_text() == "old"
