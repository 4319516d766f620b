"""Pictures and recordings: what comes from others is read in a process of its own, which can do nothing else."""
