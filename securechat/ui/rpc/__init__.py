"""The core for other programs: commands and events as lines of JSON."""
