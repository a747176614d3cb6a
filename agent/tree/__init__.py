"""The plugin tree: sealed generations, the one link that moves, and the flat copies."""
