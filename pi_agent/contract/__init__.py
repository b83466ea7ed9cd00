"""The vocabulary that the agent and the training host share. Numpy and the standard library only."""
