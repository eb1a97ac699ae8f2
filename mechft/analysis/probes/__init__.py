"""What probes are made of: the solver, fitting, controls, erasers."""
