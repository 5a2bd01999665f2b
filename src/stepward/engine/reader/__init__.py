"""Reading token sequences with a transformer at the cost of their distinct tokens: prefix trie, key-value pool, forward pass."""
