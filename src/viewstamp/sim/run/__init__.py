"""Runs of the simulator: plans, campaigns, liveness, reports, shrinking."""
