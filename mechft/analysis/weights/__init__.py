"""What weight comparisons are made of: pairs of weights, spectra, rank cuts."""
