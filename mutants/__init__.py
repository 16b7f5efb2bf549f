"""The mutation suite: one deliberate bug at a time, in a copy of the source, shows that the checks find it.

One TOML file describes one mutant (`catalogue`). It is applied to a copy in a temporary directory, never by
a flag in production code, and the detectors are run on the copy (`detect`): the scripted tests that
the file names, then simulator seeds. Killed means that a named invariant or a scripted test failed.
`python -m mutants.run` does all of them and writes the table `docs/mutation-score.md`.
"""
