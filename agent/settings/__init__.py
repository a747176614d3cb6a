"""What the operator chose: files, environment, flags, and where things lie."""
