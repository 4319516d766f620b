"""What happens to conversations, in turns; no connection, no socket, no thread of its own."""
