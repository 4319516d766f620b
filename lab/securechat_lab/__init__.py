"""securechat_lab: coursework on secure messaging, by attacks on weakened builds of the real thing. Loopback only."""
