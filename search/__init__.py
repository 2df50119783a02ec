"""The search for the Pareto front: engine, operators, fronts, records."""
