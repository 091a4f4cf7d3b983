"""The CPU engine: what calls the native module for tensors in the processor's memory."""
