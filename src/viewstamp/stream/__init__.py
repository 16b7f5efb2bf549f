"""The committed log as one stream of bytes: a snapshot, the entries after it, and a proof that all is there.

The same bytes go over the wire, into a file and into an object store. Nothing here reads or writes anything.

1. `records`: what a stream consists of;
2. `progress`: which record may follow which, and what the last one states;
3. `encoder`: values to bytes;
4. `decoder`: bytes to values, or a refusal that says at which byte.
"""
