"""A policy gradient with a critic: PPO's clipped objective over the allowed candidates."""
