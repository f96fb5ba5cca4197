"""re2pix_node: forecasts of what a vehicle's camera is about to see, over ROS 2."""

__version__ = "0.3.0"
