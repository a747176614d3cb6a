"""Plugins as a host serves them: loaded, followed, counted, judged."""
