"""What is scored: NLI checkpoints, what their outputs mean, and the pass of a corpus through one of them."""
