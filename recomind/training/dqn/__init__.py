"""Q-learning from a replay: double DQN with n-step returns inside the support."""
