"""Front ends: they draw what the client core tells them and send it commands, and hold no protocol state."""
