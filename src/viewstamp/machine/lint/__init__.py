"""Reads the source of a class, and of what it calls in its package, for what makes replicas differ.

Read in this order: `lint.lint_machine` (which functions are read), `reader` (one function, statement by
statement), `checks` (the rules of one expression), `types` (what kind of value an expression has), `saving`
(`snapshot` against `restore`), `source` (trees, lines and allow comments).

Rules of this package: nothing is run and nothing is imported; names are resolved to the objects that they
stand for in the living class, so that an alias is found as well; what is not known is not accused.
"""
