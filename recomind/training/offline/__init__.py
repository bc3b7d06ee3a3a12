"""Learning from logged sessions alone: behaviour cloning, CQL and IQL over candidate sets."""
