"""Search spaces, dynamic layers, mutators, importance, distillers and algorithms.

Names of configs are registered by ``registered``: what needs no config needs no mmengine.
"""
