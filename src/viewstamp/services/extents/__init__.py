"""A file system in a replicated machine, and the cache of a client of it. No input or output.

Read in this order: `model` (what travels), `tree` (the state), `service` (its commands, and which tokens they
demand). Then the client: `operations` (what goes in and out), `held` (what is kept of an inode under its
lock), `task` (one operation under way), `reading`, `changing` and `flushing` (what operations do), and
`cache` (who runs them, and the way back of a lock).
Sources: MIT 6.824 (2012), labs 2 to 5 and 7; docs/reference/file-system.md.
"""

from viewstamp.services.extents.service import ExtentService, FileService

__all__ = ["ExtentService", "FileService"]
