"""The background service behind ``agent run``: what it does by itself, and when."""
