"""Several steps in a row: the demo, a paper's table, and the commands of other projects.

Each module declares flags as a subcommand does. It gives its commands, as typed, to the function that it gets.
"""
