"""Who plays in a scene: honest people, the lying server, members without scruples; and how they are watched."""
