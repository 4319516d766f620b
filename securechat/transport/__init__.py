"""TLS contexts, TLS over memory, deadlines, and waking a thread that waits."""
