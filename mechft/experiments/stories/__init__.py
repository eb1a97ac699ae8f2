"""Setup 3 of the paper, as a study: a feature of stories deleted from a language model, and brought back."""
