"""Examples of consumers: how a planner uses forecasts."""
