"""What a planner does with forecasts."""
