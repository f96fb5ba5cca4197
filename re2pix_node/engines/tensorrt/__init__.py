"""What the TensorRT engine is made of; engine.py puts it together."""
