"""The command line: one file per group of verbs; each is loaded when it is called."""
