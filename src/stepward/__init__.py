"""stepward: process rewards for LLM reasoning and agents."""
