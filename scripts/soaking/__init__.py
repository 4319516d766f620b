"""Long runs under faults and load: `scripts/soak` runs them."""
