"""The engine: it runs K layers in one native call, or one by one in PyTorch if no kernel can run them.

``layers.py`` checks the pieces of a network, and describes its layers. ``run.py`` is the entrance, and runs compiled
layers. ``stepwise.py`` runs the others, by the linear steps of ``linear.py``. ``equilibrium.py`` runs one layer to its
fixed point.
"""
