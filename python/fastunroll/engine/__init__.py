"""The engine: a description of K layers becomes one native call, or a loop in PyTorch where no kernel can run it.

``layers.py`` checks the pieces that a user gives, and describes K layers. ``run.py`` is the entrance, and chooses the
way. ``native.py`` calls the compiled layers. ``stepwise.py`` runs layers one by one, by the steps of ``linear.py``.
"""
