"""The paper's second setup as a study: models pretrained on a grammar, over priors, seeds and protocols."""
