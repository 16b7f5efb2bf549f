"""What checks a replication engine from outside: invariants, disk images, descriptions.

Skip it on a first reading.
"""
