"""The command line: thin, each command in a file of its own, imported when it is called."""
