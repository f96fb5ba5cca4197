"""The parts of the TensorRT engine; engine.py puts them together."""
