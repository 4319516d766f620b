"""What every exercise is made of: seeds, scenes, a sandbox for student code, outcomes, and a student's folder."""
