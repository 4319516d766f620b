"""The benches, and the workloads that they share."""
