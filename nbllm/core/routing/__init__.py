"""Routers: one name for several models, of which each request gets one that can answer it.

``choosing`` decides purely, ``health`` knows what failures mean for those to come, ``members``
holds the state that both are about, and ``router`` is the model that asks.
"""
