"""The mutation suite: one sabotage at a time, planted in a copy of the source, proves that the checks wake.

One TOML file describes one mutant (`catalogue`). It is applied to a copy in a temporary directory, never by
a flag in production code, and the detectors are let loose on the copy (`detect`): the scripted tests that
the file names, then simulator seeds. Killed means that a named invariant or a scripted test failed.
`python -m mutants.run` does all of them and writes the table `docs/mutation-score.md`.
"""
