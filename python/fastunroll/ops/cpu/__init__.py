"""The CPU engine: the calls of the native module for tensors in the memory of the processor."""
