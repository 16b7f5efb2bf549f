"""The Makefile installs what the locks name, whatever the index offers by then; and it says what went wrong.

The interpreter's own pip does it: with Python 3.11.7 and 3.12.1 that is pip 23.2.1, the oldest that matters.
"""

import ensurepip
from pathlib import Path

import pytest

from tests.packaging.checkout import BASE_PYTHON, BROKEN, Checkout

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_pinned_releases_are_installed_when_the_index_offers_newer_ones(checkout: Checkout) -> None:
    halfway = checkout.folder / ".venv" / "bin"  # as an interruption leaves it
    halfway.mkdir(parents=True)
    (halfway.parent / "pyvenv.cfg").touch()
    (halfway / "python").symlink_to(BASE_PYTHON)
    ran = checkout.make("install-run", f"PYTHON={BASE_PYTHON}")
    assert ran.returncode == 0, ran.stderr
    assert checkout.from_locks() == checkout.locked("run")
    ran = checkout.make("install", f"PYTHON={BASE_PYTHON}")
    assert ran.returncode == 0, ran.stderr
    assert checkout.from_locks() == checkout.locked("dev")
    again = checkout.make("install")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_same_command_fails_when_pip_may_resolve(checkout: Checkout) -> None:
    checkout.replace("requirements/install.py", '"--no-deps", "--only', '"--only')
    if ensurepip.version() != "23.2.1":  # this one trips over coverage[toml]; later ones need a real gap
        checkout.leave_out("dev", "iniconfig")
    ran = checkout.make("install", f"PYTHON={BASE_PYTHON}")
    assert ran.returncode != 0
    assert BROKEN in ran.stderr
    assert "install: could not install requirements/dev.txt; " in ran.stderr


def test_failures_are_explained_in_one_line_and_do_not_last(checkout: Checkout) -> None:
    page = checkout.index / "msgspec" / "index.html"
    with_links = page.read_text(encoding="utf-8")
    page.write_text("<!DOCTYPE html>", encoding="utf-8")
    ran = checkout.make("install-run", f"PYTHON={BASE_PYTHON}")
    assert "\ninstall: could not install requirements/run.txt; check the network " in ran.stderr
    assert ran.returncode != 0
    page.write_text(with_links, encoding="utf-8")
    checkout.leave_out("run", "mdurl")
    ran = checkout.make("install-run")
    assert "install: requirements/run.txt leaves something open; run `make lock`" in ran.stderr
    assert ran.returncode != 0
    assert "mdurl" not in checkout.installed()
    checkout.put_back("run")
    (checkout.folder / ".venv" / "kept").touch()
    ran = checkout.make("install-run", PIP_USER="1", PIP_TARGET="elsewhere", PYTHONPATH="nowhere")
    assert ran.returncode == 0, ran.stderr
    assert (checkout.folder / ".venv" / "kept").exists()


def test_environment_is_replaced_when_it_was_moved(checkout: Checkout) -> None:
    checkout.make("install-run", f"PYTHON={BASE_PYTHON}")
    assert "a new .venv" not in checkout.make("install-run").stdout
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    checkout.replace(
        "requirements/pip.txt", "==", "==9999."
    )  # fails early: a whole installation would take long
    assert "a new .venv" in checkout.make("install-run").stdout


@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_unusable_interpreter_is_explained_in_one_line(checkout: Checkout, python: str) -> None:
    first, *rest = checkout.make("install-run", f"PYTHON={python}").stderr.splitlines()
    assert first.startswith(
        f'install: no Python 3.11 or later is called "{python}"; install one, or name it: '
    )
    assert all(line.startswith("make: ") for line in rest)
