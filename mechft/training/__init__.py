"""One plain training loop, and the recipes made of it."""
