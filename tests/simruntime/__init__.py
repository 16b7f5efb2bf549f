"""The runtime under simulation."""
