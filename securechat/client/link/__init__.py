"""The connection to the server: the thread that owns it, and the way to a seat."""
