"""Rules about the classes of images that belong together."""
