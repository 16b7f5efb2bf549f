"""The secured tutorial, run as it stands: three processes, a client with a grant, and one without."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from viewstamp.runtime.addresses import LOOPBACK, free_ports

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial" / "secured-counter.md"
WITHIN_S = 90


def blocks(language: str) -> list[str]:
    """The code of the page in this language, in order."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for each, code in found if each == language]


def tools(folder: Path) -> Path:
    """A folder with the two programs that the page calls, as this environment has them."""
    folder.mkdir()
    for name, call in (("python", ""), ("viewstamp", " -P -m viewstamp")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable}{call} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.mark.process
def test_secured_tutorial_tells_its_story_when_it_is_run(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name, text in zip(("counter.py", "client.py"), blocks("python"), strict=True):
        (work / name).write_text(text)
    _, *shell = blocks("")  # the first installs what is here already
    servers = "".join(f"{LOOPBACK}:{port}," for port in free_ports(3)).rstrip(",")
    environment = {
        **os.environ,
        "PATH": f"{tools(tmp_path / 'bin')}:{os.environ['PATH']}",
        "VIEWSTAMP_MEMBERS": servers,
    }
    script = "\n".join([*shell, "kill $(jobs -p)", "wait"])
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    *_, told, denied = ran.stdout.strip().splitlines()
    assert told == "1", ran.stdout + ran.stderr
    assert "client/guest" in denied
    assert "no [[grants]] of the cluster file names it" in denied
    assert (work / "tls" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert "Traceback" not in ran.stderr
