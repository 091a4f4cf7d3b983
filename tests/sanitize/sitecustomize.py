"""On the path of a Python whose native module is to be the one in ``FASTUNROLL_MODULE``: that with sanitizers."""

import importlib.util
import os
import sys


class Finder:
    """Finds that one module; the sources of the package are used where they lie."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        if name != "fastunroll._fastunroll":
            return None
        return importlib.util.spec_from_file_location(name, os.environ["FASTUNROLL_MODULE"])


sys.meta_path.insert(0, Finder)
