"""What is inside the encryption of an application message (docs/design.md, section 4, Chain)."""
