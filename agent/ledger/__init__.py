"""What the agent remembers: one SQLite file, its schema as it grew, and who writes which part."""
