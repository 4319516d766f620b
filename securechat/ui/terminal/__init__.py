"""The full screen: conversations, what was said, and a line to write in, on a terminal (Textual)."""
