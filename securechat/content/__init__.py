"""What stands inside the encryption of an application message (design, section 4, Chain)."""
