"""Whole runs and grids: planning, starting, resuming and evaluating them."""
