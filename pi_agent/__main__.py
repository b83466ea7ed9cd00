"""`python -m pi_agent` is `pi-agent`."""

from pi_agent.cli import main

main()
