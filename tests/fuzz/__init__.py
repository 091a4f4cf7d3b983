"""A fuzzer: random calls of everything public, compared with plain PyTorch in double precision.

``python -m fuzz``, run in ``tests/``, draws calls from a seed. Call K of seed S is always the same call.
"""
