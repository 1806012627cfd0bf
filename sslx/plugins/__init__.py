"""Finding the installed plugins, describing what they provide, and writing new ones."""
