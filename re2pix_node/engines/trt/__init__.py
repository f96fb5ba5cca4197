"""What the TensorRT engine is made of; `re2pix_node.engines.tensorrt` puts it together."""
