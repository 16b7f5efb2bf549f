"""The documentation is run: every Python snippet of every page, every example, and the table of promises."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document, Example
from sybil.parsers.markdown.codeblock import PythonCodeBlockParser

from tests.test_tidy import anchors, tracked_texts
from viewstamp.cli.app import COMMANDS
from viewstamp.core.protocol import Guarantees
from viewstamp.protocols.registry import PROTOCOL_NAMES, protocol_definition

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_SNIPPETS = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
COMPILED_ONLY = {"docs/how-to/simulate.md", "docs/how-to/use-tooz.md"}
"""They need many machines, or an installed package; their imports must work all the same."""
DOWN = {"minority": "a minority", "all_but_one": "all but one"}
READS = {"linearizable": "linearizable", "one_behind": "at most one write behind"}


@pytest.fixture
def modules_of_examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `import counter` find the example, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name in {path.stem for path in EXAMPLES}:
            del sys.modules[name]


@pytest.mark.usefixtures("modules_of_examples")
@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets_run(page: Path) -> None:
    document = Document.parse(str(page), PythonCodeBlockParser())
    document.namespace["__name__"] = "__snippets__"
    examples: list[Example] = list(document.examples())
    assert examples
    for example in examples:
        if str(page.relative_to(ROOT)) in COMPILED_ONLY:
            compile(example.parsed, str(page), "exec")
            exec("\n".join(re.findall(r"^(?:from|import) .+", example.parsed, re.MULTILINE)), {})
        else:
            example.evaluate()


@pytest.mark.usefixtures("modules_of_examples")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = __import__(path.stem)
    module.main()
    assert capsys.readouterr().out


def row(name: str, promises: Guarantees) -> str:
    yes = {True: "yes", False: "**no**"}
    cells = [
        f"`{name}`", promises.commits_when, DOWN[promises.tolerates], yes[promises.safe_under_partition],
        yes[promises.survives_full_restart], READS[promises.reads],
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def test_readme_promises_what_the_protocols_promise() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    head = "| protocol | commits when | may be down | safe under partition |"
    table = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    assert table == [row(name, protocol_definition(name).guarantees) for name in PROTOCOL_NAMES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist_when_a_page_shows_them(page: Path) -> None:
    blocks = re.findall(r"^ *```\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    known = {name.split()[0] for name in COMMANDS}
    shown = re.findall(r"^ *(?:\$ )?viewstamp ([a-z]+)", "\n".join(blocks), re.MULTILINE)
    assert set(shown) - known == set()


CITATION = re.compile(r"(?<![\w./-])(docs/[\w./-]+\.md)(?:#([\w-]+))?")
DEAD_CITATION = re.compile(
    r"\b(?:DESIGN|FAULTS|SCENARIOS|REVIEW|NEXT|STYLE|SPEED|DEPENDENCIES|HANDOUT)S?"
    r"(?:\.md\b|,? (?:section |part |row )?(?:\d|[A-Z]-?\d))"
)
CITING = (".py", ".md", ".toml", ".txt")
UNCHECKED = ("tests/test_docs.py", "docs/mutation-score.md", "docs/simulation-ledger.md")


def citing_files() -> dict[str, str]:
    """Return the texts that may cite a page, by their paths."""
    folders = ("src/", "labs/", "tests/", "benchmarks/", "mutants/", "examples/", "docs/")
    return {
        name: text
        for name, text in tracked_texts().items()
        if name.endswith(CITING) and name.startswith(folders) and name not in UNCHECKED
    }


def test_citations_of_pages_lead_somewhere() -> None:
    known = {str(page.relative_to(ROOT)): anchors(page) for page in PAGES}
    wrong = {
        f"{name}: {page}#{anchor}"
        for name, text in citing_files().items()
        for page, anchor in CITATION.findall(text)
        if page not in known or (anchor and anchor not in known[page])
    }
    assert wrong == set()


def test_nothing_is_cited_that_is_not_in_the_repository() -> None:
    dead = {
        f"{name}: {found.group()}"
        for name, text in citing_files().items()
        for found in DEAD_CITATION.finditer(text)
    }
    assert dead == set()


def test_every_requirement_is_listed_once() -> None:
    text = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
    assert re.findall(r'^\| <a id="r(\d+)"></a>R\1 \|', text, re.MULTILINE) == [str(n) for n in range(1, 161)]


def test_tests_exist_when_a_page_names_them() -> None:
    """A name may be that of a test, of its file, or the beginning of the names of several."""
    files = list((ROOT / "tests").rglob("*.py"))
    known = {path.stem for path in files} | {path.parent.name for path in files}
    for path in files:
        known.update(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    named = {
        name
        for page in PAGES
        if page.name
        in {"requirements.md", "6.824.md", "6.5840.md", "cs6650.md", "simulator.md", "decisions.md"}
        for name in re.findall(r"(?<![\w/])test_\w+", page.read_text(encoding="utf-8"))
    }
    assert {name for name in named if not any(one.startswith(name) for one in known)} == set()


def test_rows_of_the_mutants_are_rows_of_the_catalogue() -> None:
    rows = set()
    for path in (ROOT / "mutants").rglob("*.toml"):
        rows.update(re.findall(r'^row = "(\w+)"', path.read_text(encoding="utf-8"), re.MULTILINE))
    assert {row.lower() for row in rows} - anchors(ROOT / "docs" / "faults.md") == set()
