"""Learning from footage: reading it, and what is trained on it. Nothing at run time imports this."""
