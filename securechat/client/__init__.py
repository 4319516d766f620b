"""The headless client: commands in, events out."""
