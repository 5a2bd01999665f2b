"""Training: objectives as pure functions, from labelled trajectories to batches, and the trainer of step classifiers."""
