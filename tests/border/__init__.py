"""Adversaries: hostile clients, members and classes. Each test says what must hold (SECURITY.md)."""
