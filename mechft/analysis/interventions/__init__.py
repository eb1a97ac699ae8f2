"""What interventions are made of: sites, edits, what is put there, sweeps."""
