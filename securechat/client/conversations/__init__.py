"""Conversations as one member takes part in them: what their logs bring, what goes into them, ways in and out."""
