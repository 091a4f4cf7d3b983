"""The demos of imaging: sharper galaxies, and magnetic resonance scans from a quarter of k-space."""
