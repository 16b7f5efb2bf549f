"""What is made of a stream of the committed log: a backup, another cluster, a comparison of two classes.

1. `collecting`: a stream out of a running node's answers;
2. `execution`: a class that executes what a stream holds, in memory;
3. `seeding`: the data directories of a new cluster that goes on from there;
4. `comparing`: new code over an old log, and the first difference; `golden`: the same for a test.

Where the bytes come from and go to is the caller's: files and stores are in `cli`.
"""
