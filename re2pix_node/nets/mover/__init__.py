"""The family `mover`: learns flow from exact flow, moves features and labels along it, and corrects them."""
