"""Program to program, with a certificate: what fired, what declined and why, and the measured difference."""
