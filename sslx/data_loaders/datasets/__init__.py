"""Datasets, each of which loads a training and a test split."""
