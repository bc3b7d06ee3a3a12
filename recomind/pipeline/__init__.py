"""One run, its stages and what they leave on disk; see `recomind.pipeline.rounds`."""
