"""A file system of a cluster as a directory of this machine.

The protocol of Linux's /dev/fuse is spoken here, so that nothing has to be installed: `kernel` reads and
makes its messages, `translation` makes operations of requests and replies of results, `device` mounts,
`driver` stands between the cache (`services.extents`) and the cluster, and `mount` lets all of them run.
"""
