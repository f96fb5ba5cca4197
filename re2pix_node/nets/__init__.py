"""PyTorch networks (backbones, forecasters, heads) and their export to bundles. The run time never imports them."""
