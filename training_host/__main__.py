"""`python -m training_host` is `train-host`."""

from training_host.cli import main

main()
