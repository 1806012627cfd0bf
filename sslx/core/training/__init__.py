"""One run, from its first step to its scores; knows the rest of the core, which does not know it."""
