"""`python -m stepward.cli`: the same as the `stepward` command."""

from stepward.cli.main import main

main()
