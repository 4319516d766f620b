"""The plain terminal client: lines in, lines out, on any terminal and in a pipe."""
