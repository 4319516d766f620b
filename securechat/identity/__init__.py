"""Who somebody is: names, device certificates, pins and the safety number (design, section 6)."""
