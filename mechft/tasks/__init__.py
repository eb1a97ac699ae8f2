"""What models are asked: batches of tokens with known answers. Knows nothing of models."""
