"""What the operator sees and does: requests over a socket, backups, metrics, the doctor."""
