"""`viewstamp lint MODULE:CLASS`: what in the source of a class makes its replicas differ.

Exit codes: 0 nothing was found; 1 something was, with its line; 78 the class cannot be read.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from viewstamp.cli.output import printable, show_json
from viewstamp.cli.serve import load_machine
from viewstamp.machine.lint.lint import lint_machine
from viewstamp.machine.rules import ADDRESS, Finding

OK: Final = 0
FOUND: Final = 1


def lint(
    machines: Annotated[tuple[str, ...], Parameter(negative="", help="State machines, as MODULE:CLASS.")],
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="Print a JSON array.")] = False,
) -> int:
    """Find what in a class, and in what it calls in its package, makes replicas differ.

    Nothing of the class is run. A comment `# viewstamp: allow VS003 REASON` on the line, above it, or at the
    head of the function, allows what it names.
    """
    found = [finding for name in machines for finding in lint_machine(load_machine(name))]
    if json:
        show_json([as_data(finding) for finding in found])
    else:
        for finding in found:
            print(told(finding))
        if found:
            print(f"{len(found)} found; the rules: {ADDRESS}", file=sys.stderr)
    return FOUND if found else OK


def told(finding: Finding) -> str:
    """Return a finding as one line, its file relative to the current directory."""
    return printable(str(finding._replace(file=relative(finding.file))))


def as_data(finding: Finding) -> dict[str, object]:
    """Return a finding for a program."""
    return {
        "rule": finding.rule.code,
        "name": finding.rule.name,
        "where": finding.where,
        "text": finding.text,
        "instead": finding.rule.instead,
        "file": relative(finding.file),
        "line": finding.line,
    }


def relative(file: str) -> str:
    """Return a file's path as seen from here, if it is below."""
    path = Path(file)
    here = Path(os.curdir).resolve()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else file
