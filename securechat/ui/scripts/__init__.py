"""The commands for scripts: each starts the core, waits for the answer to its own question, and ends."""
