"""Files that people share: encrypted in chunks, brought to the server and from there, and saved under safe names."""
