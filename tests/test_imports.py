"""The graph of imports has no cycle, with those for type checkers and those inside functions.

import-linter checks layers of packages. It does not see a cycle of two modules in one package, nor an import
by a string. A module that needs another one that needs it cannot be read or changed without it.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {"viewstamp": ROOT / "src/viewstamp", "viewstamp_labs": ROOT / "labs/src/viewstamp_labs"}

KNOWN_CYCLES: tuple[frozenset[str], ...] = (frozenset({"viewstamp.cli.app", "viewstamp.cli.full_parser"}),)
"""The cycles that are left. One may shrink or go; no other may come."""

IMPORTS_BY_NAME = {
    "viewstamp/__init__.py": "the public names, each imported when it is first used",
    "viewstamp/cli/fast_path.py": "a small command starts without the parser of all of them",
    "viewstamp/cli/full_parser.py": "the table of commands",
    "viewstamp/cli/serve.py": "MODULE:CLASS of a user",
    "viewstamp/machine/lint/scope.py": "what an import in a user's function binds",
    "viewstamp/protocols/registry.py": "the protocols by name",
    "viewstamp/sim/run/campaign.py": "the extra `dask`",
    "viewstamp/sim/workloads/catalogue.py": "MODULE:CLASS of a user",
    "viewstamp/testing/__init__.py": "the public names, each imported when it is first used",
    "viewstamp/testing/plugin.py": "MODULE:CLASS of a user",
}
"""Files that may import a module by a string, and why. Elsewhere it would hide an import from the checks."""

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Return the file of each module of the product and of the laboratories."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, known: set[str]) -> set[str]:
    """Return the modules among the known ones that this source imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= inner
            if len(inner) < len(node.names):
                found.add(node.module)
    return found & known


def graph_of(sources: dict[str, str]) -> Graph:
    """Return what each module imports, itself left out."""
    known = set(sources)
    return {name: imports_of(source, known) - {name} for name, source in sources.items()}


def cycles(graph: Graph) -> list[frozenset[str]]:
    """Return the groups of two or more modules that all reach each other."""
    below = {name: _reached(graph, name) for name in graph}
    groups = {frozenset(other for other in below[name] if name in below[other]) for name in graph}
    return sorted((group for group in groups if len(group) > 1), key=sorted)


def _reached(graph: Graph, start: str) -> set[str]:
    reached, waiting = set[str](), [start]
    while waiting:
        for name in graph[waiting.pop()] - reached:
            reached.add(name)
            waiting.append(name)
    return reached


def calls_by_name(source: str) -> bool:
    """Return whether this source imports by a string."""
    called = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = {node.id if isinstance(node, ast.Name) else getattr(node, "attr", "") for node in called}
    return bool(names & {"import_module", "__import__"})


def test_no_module_needs_itself() -> None:
    sources = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    found = [
        group for group in cycles(graph_of(sources)) if not any(group <= known for known in KNOWN_CYCLES)
    ]
    assert not found, "\n".join(" <-> ".join(sorted(group)) for group in found)


def test_modules_are_imported_by_a_string_only_where_that_is_documented() -> None:
    found = {
        path.relative_to(folder.parent).as_posix()
        for folder in PACKAGES.values()
        for path in folder.rglob("*.py")
        if calls_by_name(path.read_text(encoding="utf-8"))
    }
    assert found <= set(IMPORTS_BY_NAME), found - set(IMPORTS_BY_NAME)


def test_a_cycle_is_found_when_one_of_its_imports_is_for_type_checkers_or_in_a_function() -> None:
    sources = {
        "a": "if TYPE_CHECKING:\n    from b import B\n",
        "b": "def f():\n    import c\n",
        "c": "from a import A\n",
        "d": "import a\n",
    }
    assert cycles(graph_of(sources)) == [frozenset("abc")]


def test_an_import_by_a_string_is_found() -> None:
    assert calls_by_name('importlib.import_module("viewstamp.sim")')
    assert not calls_by_name("from importlib import import_module")
