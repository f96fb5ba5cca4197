"""Reads and writes recordings without ROS."""
