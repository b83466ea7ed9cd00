"""The whole story on one machine: a marked victim behind a quota, an agent, a substitute, and whose it is."""
