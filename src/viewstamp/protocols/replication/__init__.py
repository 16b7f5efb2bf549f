"""A log, and how it gets from the one that leads to those that follow: what Raft and primary-backup share.

Nothing here elects, counts or commits. Protocols say those things in their own words and hand the rest to
these parts; the parts know no protocol.
"""
