"""Kinds of layers: the record (``record.py``), the kinds that are known (``entries.py``) and the parts they share.

``flow.py`` says how channels go through a call, ``rows.py`` what a call costs.
"""
