"""The batched sampler behind the local policy: rendering, key-value cache, forward passes, filters and the pool of running rows."""
