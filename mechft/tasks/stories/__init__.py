"""Short stories with instructions: TinyStories-Instruct, and stories made here whose features are known."""
