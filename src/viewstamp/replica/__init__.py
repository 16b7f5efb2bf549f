"""Protocol core, exactly-once sessions and the user's machine, still without input or output."""
