"""Training from footage. The run time never imports this."""
