"""Frames in, forecasts out. Knows no ROS."""
