"""Servers and MLS implementations that are put to work."""
