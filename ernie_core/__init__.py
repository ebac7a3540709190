"""The model, the tasks, the training loop and the benchmarks of ERNIE 2.0. Knows nothing of Ray."""
