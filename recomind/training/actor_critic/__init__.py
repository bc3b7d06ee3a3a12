"""A policy gradient with a critic on the same runner, network and bootstrap as the Q-learner."""
