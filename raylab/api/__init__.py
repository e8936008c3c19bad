"""FOR NOTEBOOKS: what the verbs do, as functions that return values and raise raylab's errors."""
