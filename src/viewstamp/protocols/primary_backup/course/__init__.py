"""Primary-backup in the form of CS6650's third assignment, not fenced: the server written to leads."""
