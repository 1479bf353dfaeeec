"""Agents for sparse rewards: PPO with an episodic first-visit bonus, its policy dense or sparse, on MiniGrid."""
