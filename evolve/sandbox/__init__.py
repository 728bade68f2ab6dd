"""Where programs run: one protocol, its backends, and the guest inside them."""
