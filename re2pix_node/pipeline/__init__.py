"""Frames in, forecasts out. No ROS here."""
