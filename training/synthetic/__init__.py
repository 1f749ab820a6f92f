"""Rendered CC0 portraits with known identity, pose, facial actions and emotion."""
