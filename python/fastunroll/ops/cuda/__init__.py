"""The kernels of devices: for tensors of CUDA and, emulated in tests, of the CPU."""
