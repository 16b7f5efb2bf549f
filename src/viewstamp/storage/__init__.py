"""What survives a crash: the journal, snapshots, and the directory that holds both for one node."""
