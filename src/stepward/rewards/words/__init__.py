"""tools:words: sorting words letter by letter, checked against the alphabet."""

from stepward.rewards.words.verifier import Words

__all__ = ["Words"]
