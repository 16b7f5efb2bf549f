"""A class that changes while it runs."""
