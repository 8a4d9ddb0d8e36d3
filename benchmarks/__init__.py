"""asv benchmarks, run by `make asv`: metric kernels, one training step and one sampling call of each family, import and memory."""
