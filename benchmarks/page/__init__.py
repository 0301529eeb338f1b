"""What the page costs: time to its first page, and what viewers take from the loop."""
