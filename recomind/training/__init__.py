"""Policy training: a batched RLlib algorithm, its replay, checkpoints and the loop around it."""
