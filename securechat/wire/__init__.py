"""What travels inside TLS, without any I/O."""
