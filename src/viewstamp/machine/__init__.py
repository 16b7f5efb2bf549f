"""The user's class: what it may do, how its operations are found, run and saved. Does no input or output."""
