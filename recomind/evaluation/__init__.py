"""The proof: paired rollouts, intervals, the release gate and the report."""
