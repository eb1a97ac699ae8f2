"""What pruning is made of: units, scores, masks, and applying them."""
