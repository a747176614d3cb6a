"""The audit log: hash-chained lines of whatever was decided."""
