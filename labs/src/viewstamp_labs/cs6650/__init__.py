"""The system of CS6650's third assignment: robot factories that keep their customer records replicated.

`server` is a factory, `client` a crowd of customers, `audit` looks at a factory's log from outside. What each
requirement became is in docs/labs/cs6650.md.
"""
