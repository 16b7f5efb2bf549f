"""Clients of the services for asyncio and for threads, above `runtime`."""
