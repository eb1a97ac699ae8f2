"""Any base and fine-tuned model, and a user's own data: every analysis that applies, one after the other."""
