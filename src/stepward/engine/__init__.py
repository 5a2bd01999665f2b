"""Engine: what makes requests fast and durable. Batching, concurrency, retries, noise, the journal; no knowledge of any method or model."""
