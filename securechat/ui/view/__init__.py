"""What there is to see, as values without a toolkit: every face is drawn from it. No threads, no I/O of its own."""
