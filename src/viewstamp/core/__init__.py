"""The seam: what a protocol core is told, what it answers, and the words they share.

Nothing in this package does input or output, reads a clock or draws a random number.
"""
