"""What review should not have to look for: sizes, banned words, links, commands and verbs that do not exist.

The limits are a ratchet: lower one when the code has become better, never raise one.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "viewstamp"

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
FUNCTION_LINES_MEDIAN = 8
FUNCTION_LINES_P90 = 30
PAGE_COLUMNS_MAX = 200

BANNED_WORDS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "NotImplemented" + "Error")
BANNED_IN_TESTS = ("pytest.mark.sk" + "ip", "pytest.sk" + "ip", "xf" + "ail(", "time.sl" + "eep(")
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(?:work|root|home/\w+|Users)/\w")
FORBIDDEN_AT_START = ("cyclopts", "rich", "uvloop", "asyncio", "hypothesis", "pytest", "sqlite3")


TURNS_OF_PHRASE = (
    (r"\b[Ff]or ever\b", "permanently, endlessly"),
    (r"\bany more\b", "no longer"),
    (r"\banew\b", "again"),
    (r"\bwish(?:es|ed|ing)?\b", "request"),
    (r"\b[Ww]ho(?:m)?ever\b", "the node (client, caller) that"),
    (r"(?:(?<=[.;:] )|(?<=\"\"\"))Who [a-z][^.?!]*[.;]", "The node (client, caller) that"),
    (r"\b(?:is|are|was|were|be|been|being) had\b", "acquired, available"),
    (r"\bsigns? of life\b", "heard from"),
    (r"\b(?:take|Take|takes|took|taken|taking) note (?:of|that|how)\b", "record"),
    (r"\b[Tt]ell (?:whether|if)\b", "return whether"),
    (r"\b[Ss]o (?:many|few|often)\b(?!(?: \w+){0,3} (?:that|as)\b)", "N, or the name of the option"),
    (r"\bfor so long\b(?! as\b)", "the name of the option"),
    (r"\b[Dd]oubled\b", "duplicated, twice as long"),
    (r"\blets? (?:it|this|them) happen\b", "the verb that is meant"),
    (r"\b(?:became|become|becomes) of\b", "the verb that is meant"),
    (r"\bbef[ae]ll(?:s|en)?\b", "the verb that is meant"),
    (r"\bdo not touch\b", "read-only for callers"),
    (r"\b(?:[Ll]et|[Ll]ets|letting) (?:\w+ )?(?:back )?in\b", "re-admit, admit"),
    (r"\b[Ff]ound(?:ed|ing|ers?|s)\b", "bootstrap"),
    (r"\b[Rr]etire[sd]?\b", "step down"),
    (r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer\b|more\b|one\b)[a-z]", "is not a"),
)
"""Turns of phrase that this project no longer uses, and what to write instead (docs/glossary.md)."""
QUOTING = ("tests/test_tidy.py", "docs/glossary.md", "docs/mutation-score.md")
"""Files that quote them: this one, the glossary, and a page that is made of the mutants' titles."""


def python_files(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in found if "__pycache__" not in path.parts]


ALL_PYTHON = python_files("src", "tests", "benchmarks", "examples")


@cache
def tracked_texts() -> dict[str, str]:
    """Return the text of every file that belongs to the project, by its path."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines() or [
        str(path.relative_to(ROOT)) for path in [*ALL_PYTHON, *(ROOT / "docs").rglob("*.md")]
    ]
    texts = {}
    for name in names:
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".lock"}:
            texts[name] = path.read_text(encoding="utf-8", errors="replace")
    return texts


@cache
def functions(path: Path) -> tuple[tuple[str, int], ...]:
    """Return (name, lines) of every function and method of a file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return tuple((node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in found)


def markdown_files() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def make_verbs() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", text, re.MULTILINE))


def families_of_verbs() -> tuple[str, ...]:
    """Return the beginnings of verbs that a pattern rule makes, such as `test-`."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return tuple(re.findall(r"^([a-z][a-z0-9-]*-)%:", text, re.MULTILINE))


def test_no_file_is_longer_than_the_limit() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ALL_PYTHON}
    assert {name: count for name, count in lines.items() if count >= FILE_LINES_MAX} == {}


def test_no_function_is_longer_than_the_limit() -> None:
    found = ((path, name, lines) for path in ALL_PYTHON for name, lines in functions(path))
    assert [(str(path.relative_to(ROOT)), name, n) for path, name, n in found if n > FUNCTION_LINES_MAX] == []


def test_functions_are_short_when_all_are_taken_together() -> None:
    lengths = [lines for path in python_files("src") for _, lines in functions(path)]
    assert median(lengths) <= FUNCTION_LINES_MEDIAN
    assert quantiles(lengths, n=10)[-1] <= FUNCTION_LINES_P90


def test_no_file_of_the_library_lacks_a_docstring() -> None:
    bare = [path for path in python_files("src") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert bare == []


def test_no_test_directory_lacks_an_init() -> None:
    folders = {path.parent for path in python_files("tests")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("word", BANNED_WORDS)
def test_no_file_holds_the_banned_word(word: str) -> None:
    pattern = re.compile(rf"\b{word}\b")
    hits = [name for name, text in tracked_texts().items() if name.endswith(".py") and pattern.search(text)]
    assert hits == []


@pytest.mark.parametrize("word", BANNED_IN_TESTS)
def test_no_test_holds_the_banned_call(word: str) -> None:
    assert [str(path) for path in python_files("tests") if word in path.read_text()] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert [name for name, text in tracked_texts().items() if MACHINE_PATHS.search(text)] == []


def phrases(name: str, text: str) -> list[str]:
    """Return the turns of phrase in a text, each with what stands around it; a page may quote code."""
    if name.endswith(".md"):
        text = re.sub(r"`[^`\n]+`", "`code`", text)
    flat = re.sub(r"\s*\n\s*(?:#:? )?", " ", text)
    found = (match for pattern, _ in TURNS_OF_PHRASE for match in re.finditer(pattern, flat))
    return [flat[max(0, match.start() - 30) : match.end() + 20] for match in found]


def test_no_text_holds_an_old_turn_of_phrase() -> None:
    hits: dict[str, list[str]] = {}
    for name, text in tracked_texts().items():
        if name.endswith((".py", ".md", ".toml", ".txt", "Makefile")) and name not in QUOTING:
            folder = name.split("/")[0] if "/" in name else "."
            hits.setdefault(folder, []).extend(f"{name}: {found}" for found in phrases(name, text))
    assert {folder: found for folder, found in hits.items() if found} == {}


@pytest.mark.parametrize(("pattern", "instead"), TURNS_OF_PHRASE)
def test_what_to_write_instead_is_not_itself_a_turn_of_phrase(pattern: str, instead: str) -> None:
    assert not re.search(pattern, instead)


def links(path: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)


def anchors(path: Path) -> set[str]:
    """Return what a link into this page may name: its headings, and the ids that it sets."""
    text = path.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"></a>', text))


def broken(path: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return False
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    return not target.exists() or (anchor != "" and anchor not in anchors(target))


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in links(path) if broken(path, link)] == []


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_make_verbs_exist_when_a_page_names_them(path: Path) -> None:
    named = set(
        re.findall(r"^(?:\$ )?make ([a-z0-9-]+)|`make ([a-z0-9-]+)[^`]*`", path.read_text(), re.MULTILINE)
    )
    unknown = {one or other for one, other in named} - make_verbs()
    assert {verb for verb in unknown if not verb.startswith(families_of_verbs())} == set()


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_break_lines_at_sentences(path: Path) -> None:
    """Else a change of one word shows a whole paragraph. Tables, code and generated pages are left out."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > PAGE_COLUMNS_MAX and not line.startswith("|")]
    assert path.name == "mutation-score.md" or long == []


def test_every_make_verb_says_what_it_does() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    described = set(re.findall(r"^([a-z][a-z0-9-]*):[^=\n]*## ", text, re.MULTILINE))
    assert make_verbs() - described == set()


def test_importing_the_library_does_not_import_what_only_commands_need() -> None:
    program = "import sys, viewstamp; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) & set(FORBIDDEN_AT_START) == set()
