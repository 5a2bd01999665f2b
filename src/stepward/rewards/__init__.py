"""Rewards: who scores steps. Discriminative models, tool verifiers and oracles; `load_reward_model` reads their specifications."""
