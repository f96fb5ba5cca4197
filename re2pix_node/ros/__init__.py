"""The node: ROS messages in, ROS messages out."""
