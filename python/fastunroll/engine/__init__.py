"""The engine: a description of K layers becomes one native call, or a loop in PyTorch where no kernel can run it.

``unrolled`` and the networks enter by :func:`fastunroll.engine.run.run`. ``native.py`` calls the compiled layers;
``stepwise.py`` runs layers one by one, and is the specification of the compiled ones; ``linear.py`` has the linear steps
that it calls; ``arguments.py`` checks what a user gives; ``description.py`` is what all of them pass on.
"""
