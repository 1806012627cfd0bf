"""Faults made on purpose: flipped bits, crashes, kills, full disks. `python tests/faults --help` tries many of them."""
