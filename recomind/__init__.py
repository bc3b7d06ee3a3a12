"""recomind: a supervised ranker in, a session-level reinforcement-learning recommender out."""

__version__ = "0.1.0"
