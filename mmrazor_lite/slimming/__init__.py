"""Slim a trained network: which channels stay, how many where, and the weights that are left repaired."""
