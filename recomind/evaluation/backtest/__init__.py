"""How a ranker ages: fitted on rolling windows of days, judged on every later day."""
