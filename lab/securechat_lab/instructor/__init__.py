"""The instructor's side: a course, its roster, grading of a class, an autograder, and what looks alike."""
