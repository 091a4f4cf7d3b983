"""The demos: block compressed sensing of photographs in this folder, and imaging in ``imaging``."""
