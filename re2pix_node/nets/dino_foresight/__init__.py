"""DINO-Foresight as published. It is imported, not trained."""
