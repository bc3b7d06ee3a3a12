"""Worlds of known truth that differ by mechanism, each with references (docs/adr/0012)."""
