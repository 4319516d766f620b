"""Words for people: what is said of events and states, and the cleaning of what others chose."""
