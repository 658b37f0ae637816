"""One harness for all policies, samplers and executors: same data, checkpoints, seeds and scenes."""
