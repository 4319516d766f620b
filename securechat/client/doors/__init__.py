"""Doors: what this client does with every way into a conversation, as one pure function over one table."""
