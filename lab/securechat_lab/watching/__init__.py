"""Watching: what the network, the server and each person see of the same messages, recorded and shown side by side."""
