"""One technique a file: (model or models, batch, metric or target) in, a frozen result out."""
