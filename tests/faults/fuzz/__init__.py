"""Seeded damage to everything that is loaded: see `campaign`."""
