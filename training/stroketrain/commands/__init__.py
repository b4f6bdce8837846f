"""The commands: one module each, with ``add_parser(commands)`` and ``run(arguments)``.

They import nothing heavy at their top, so that ``--help`` is quick.
"""
