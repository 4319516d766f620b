"""Who somebody is: device certificates, pins and the safety number (docs/design.md, section 6)."""
