"""Loaders, which bring batches of images to the device."""
