"""viewstamp behind the interfaces of other libraries, one file for each; each needs the extra of its name."""
