"""The subcommands of ``stroke-lesion-seg``, one module each with ``add_parser``.

Nothing here is imported by the engine, and no module imports anything slow at its top: the help
text has to appear at once.
"""
