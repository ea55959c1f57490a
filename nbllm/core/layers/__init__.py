"""Layers around a model's own stream: each adds one capability to every request.

A new capability is one module with a class of the protocol ``layer.Layer``, and a member of
``layer.Place`` that says where it stands among the others.
"""
