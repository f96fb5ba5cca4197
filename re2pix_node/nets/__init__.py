"""PyTorch: backbones, forecasters and heads, and their way into bundles. Never imported by the run time."""
